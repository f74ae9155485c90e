// Measures the page in Chromium for page.rs: `node page-bench.mjs TASK`. Prints milliseconds as JSON.
import { chromium } from 'playwright-core';

const task = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });

// In the page: calls `done` after the frame that shows what is there now.
const painted = 'globalThis.afterPaint = done => requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel(); port1.onmessage = () => done(performance.now()); port2.postMessage(null); });';

// From the start of the navigation to the first rows, with an empty cache.
async function firstRows() {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.addInitScript(painted);
  await page.addInitScript(() => {
    const watch = new MutationObserver(() => {
      if (!document.querySelector('main tbody tr')) return;
      watch.disconnect();
      globalThis.afterPaint(now => { globalThis.firstRows = now; });
    });
    watch.observe(document, { childList: true, subtree: true });
  });
  await page.goto(task.base);
  const took = await (await page.waitForFunction(() => globalThis.firstRows)).jsonValue();
  await context.close();
  return took;
}

// From each key to the frame that shows its results.
async function keystrokes() {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  await page.addInitScript(painted);
  await page.goto(task.base);
  await page.waitForSelector('main tbody tr');
  await page.evaluate(() => {
    const command = () => document.querySelector('.command code')?.textContent ?? '';
    let begun = 0;
    let known = command();
    globalThis.times = [];
    addEventListener('keydown', event => { begun = event.timeStamp; }, true);
    new MutationObserver(() => {
      if (command() === '' || command() === known) return;
      known = command();
      const since = begun;
      globalThis.afterPaint(now => { globalThis.times.push(now - since); });
    }).observe(document.querySelector('main'), { childList: true, subtree: true });
  });
  const times = [];
  for (const word of task.words) {
    const count = () => page.evaluate(() => globalThis.times.length);
    if (await page.locator('#search').inputValue() !== '') {
      const before = await count();
      await page.locator('#search').fill('');
      await page.waitForFunction(before => globalThis.times.length > before, before);
    }
    await page.locator('#search').focus();
    for (const letter of word) {
      const before = await count();
      await page.keyboard.press(letter);
      await page.waitForFunction(before => globalThis.times.length > before, before);
      times.push(await page.evaluate(() => globalThis.times.at(-1)));
    }
  }
  return times;
}

const first = [];
for (let n = 0; n < task.loads; n += 1) first.push(await firstRows());
console.log(JSON.stringify({ first, keys: await keystrokes() }));
await browser.close();
