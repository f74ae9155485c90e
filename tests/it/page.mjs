// Walks the page in Chromium for page.rs: `node page.mjs TASK`. Prints what it found as JSON.
import { chromium } from 'playwright-core';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const task = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
const problems = [];

// A page with this width and colour scheme; everything that the console reports is a problem.
async function open(width, scheme, address) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, bypassCSP: false });
  const page = await context.newPage();
  page.on('console', line => { if (['error', 'warning'].includes(line.type())) problems.push(`${address} at ${width}: ${line.text()}`); });
  page.on('pageerror', error => problems.push(`${address} at ${width}: ${error.message}`));
  page.on('dialog', dialog => { problems.push(`${address}: a dialog: ${dialog.message()}`); void dialog.dismiss(); });
  page.on('request', request => { if (!request.url().startsWith(task.base)) problems.push(`${address}: requests ${request.url()}`); });
  await page.goto(task.base + address);
  await shown(page);
  return page;
}

const shown = page => page.waitForFunction(() => {
  const main = document.querySelector('main');
  return main && !main.classList.contains('loading') && main.children.length > 0;
});

const rows = page => page.locator('main tbody tr').count();
const hash = page => page.evaluate(() => decodeURIComponent(location.hash));

// Every address in every view: it fits its window, and axe finds nothing unless `task.fast` is set.
async function visit() {
  const found = {};
  for (const address of task.addresses) {
    for (const [width, scheme] of task.views) {
      const page = await open(width, scheme, address);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (over > 0) problems.push(`${address} at ${width}: wider than the window by ${over} px`);
      // The policy of the page forbids scripts in its document, so axe is evaluated by the debugger.
      if (!task.fast) await page.evaluate(axe);
      const { violations } = task.fast ? { violations: [] } : await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
      for (const one of violations) problems.push(`${address} at ${width}, ${scheme}: ${one.id}: ${one.nodes.map(node => node.html.slice(0, 120)).slice(0, 3).join(' | ')}`);
      found[address] = { title: await page.title(), heading: await page.locator('main h1').first().textContent().catch(() => null), rows: await rows(page), text: (await page.locator('main').innerText()).slice(0, 4000) };
      await page.context().close();
    }
  }
  return found;
}

// The keyboard alone: search, select, open, copy, help.
async function keyboard() {
  const page = await open(1440, 'light', '#/images');
  const all = await page.locator('.count b').textContent();
  await page.keyboard.press('/');
  await page.keyboard.type(task.word);
  await page.waitForFunction(before => document.querySelector('.count b')?.textContent !== before, all);
  const searched = { hash: await hash(page), count: await page.locator('.count b').textContent(), command: await page.locator('.command code').textContent(), focus: await page.evaluate(() => document.activeElement?.id) };
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.keyboard.press('ArrowDown');
  const selected = await page.locator('tr[aria-selected=true]').count();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => location.hash.startsWith('#/image?'));
  await shown(page);
  const opened = await hash(page);
  await page.keyboard.press('?');
  const help = await page.locator('dialog[open]').count();
  await page.keyboard.press('Escape');
  const closed = await page.locator('dialog[open]').count();
  await page.goBack();
  await page.waitForFunction(() => location.hash.startsWith('#/images'));
  return { searched, selected, opened, help, closed };
}

// A facet narrows the list, and is a part of the address and of the command.
async function facet() {
  const page = await open(1440, 'light', '#/images');
  const before = await page.locator('.count b').textContent();
  const box = page.locator(`input[data-facet="${task.facet}"]`);
  const promised = await page.locator('label', { has: box }).locator('small').textContent();
  await box.check();
  await page.waitForFunction(text => document.querySelector('.count b')?.textContent !== text, before);
  return { promised, count: await page.locator('.count b').textContent(), hash: await hash(page), command: await page.locator('.command code').textContent() };
}

// Without a key, a lookup that queries Azure asks for one. A wrong key is dropped, and asked for again.
async function key() {
  const page = await browser.newPage();
  await page.goto(`${task.base}#/usage`);
  await page.waitForSelector('dialog[open]');
  const asked = await page.locator('dialog[open]').innerText();
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('dialog[open] input')?.value === '' && sessionStorage.length === 0);
  await page.locator('dialog[open] input').fill(task.key);
  await page.keyboard.press('Enter');
  await page.waitForSelector('main tbody tr');
  const kept = await page.evaluate(() => [JSON.stringify({ ...localStorage }), location.href]);
  return { asked, rows: await rows(page), isKept: kept.some(text => text.includes(task.key)) };
}

// A purge plan is reviewed in the browser. Every request is to the page's own host (see open).
async function plan() {
  const page = await open(1440, 'light', '#/plan');
  const found = [];
  for (const file of task.plans) {
    await page.locator('input[type=file]').setInputFiles(file);
    await page.waitForFunction(() => document.querySelector('main section')?.children.length > 0);
    for (const part of await page.locator('main details > summary').all()) await part.click();
    found.push(await page.locator('main section').innerText());
  }
  // The first of two files is read last: the review is of the second.
  await page.evaluate(() => {
    const text = Blob.prototype.text;
    let count = 0;
    Blob.prototype.text = function late() {
      const own = text.call(this);
      count += 1;
      return count > 1 ? own : new Promise((resolve) => { globalThis.readFirst = () => { resolve(own); }; });
    };
  });
  await page.locator('input[type=file]').setInputFiles(task.plans[1]);
  await page.locator('input[type=file]').setInputFiles(task.plans[0]);
  await page.waitForFunction(() => document.querySelector('main section')?.textContent?.includes('can be applied until'));
  await page.evaluate(async () => { globalThis.readFirst(); await new Promise((resolve) => { setTimeout(resolve, 50); }); });
  found.push(await page.locator('main section').innerText());
  return found;
}

// The code that deploys an image: chosen with the keyboard, and kept for the next image.
async function snippets() {
  const page = await open(1440, 'light', task.image);
  const first = await page.locator('#snippet').innerText();
  await page.locator('[role=tab][aria-selected=true]').focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  const chosen = await page.locator('[role=tab][aria-selected=true]').textContent();
  const text = await page.locator('#snippet').innerText();
  await page.reload();
  await shown(page);
  const kept = await page.locator('[role=tab][aria-selected=true]').textContent();
  // Two images are compared, in all of the locations that are chosen.
  await page.getByRole('button', { name: 'Add to comparison' }).click();
  await page.goto(task.base + task.other);
  await shown(page);
  await page.getByRole('button', { name: 'Add to comparison' }).click();
  await page.getByRole('link', { name: 'compare 2 images' }).click();
  await page.waitForFunction(() => document.querySelector('main details.panel'));
  await page.locator('main details.panel > summary').click();
  await page.locator('main details.panel input').first().check();
  await page.waitForFunction(() => document.querySelector('main tbody th')?.textContent?.startsWith('newest in'));
  const compared = { rows: await page.locator('main tbody tr').first().innerText(), command: await page.locator('.command code').textContent(), hash: await hash(page) };
  return { compared, first, chosen, text, kept };
}

const steps = { visit, keyboard, facet, key, plan, snippets };
const found = {};
for (const step of task.steps) found[step] = await steps[step]();
await browser.close();
process.stdout.write(JSON.stringify({ problems, found }));
