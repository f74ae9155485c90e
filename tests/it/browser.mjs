// Drives Chromium for browser.rs: `node driver.mjs TASK`, TASK as JSON; what came of it goes to stdout as JSON.
import { chromium } from 'playwright-core';

const task = JSON.parse(process.argv[2]);
const rules = 'MAP other.example 127.0.0.1, MAP rebound.example 127.0.0.3';
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', `--host-resolver-rules=${rules}`],
});

// Runs in a page: everything that a page can try at the server `victim`.
async function attack(victim) {
  const api = `http://${victim}/api`;
  const results = [];
  const within = promise => Promise.race([promise, new Promise(done => setTimeout(() => done('nothing'), 4000))]);
  const attempt = async (attack, work) => {
    let text = '';
    try {
      text = String(await within(work()));
    } catch (error) {
      text = `refused: ${error.name}`;
    }
    results.push({ attack, read: text.includes('"value"'), text: text.slice(0, 200) });
  };
  const text = (path, options) => async () => (await fetch(`${api}/${path}`, options)).text();
  const body = '{"full":true,"details":"all"}';
  const post = (type, more) => ({ method: 'POST', body, headers: { 'content-type': type }, ...more });
  const form = new FormData();
  form.append('x', body);

  await attempt('fetch', text('images?top=1'));
  await attempt('fetch without CORS', text('images?top=1', { mode: 'no-cors' }));
  await attempt('fetch with credentials', text('images?top=1', { credentials: 'include' }));
  await attempt('fetch with a header', text('images?top=1', { headers: { 'x-functions-key': 'guess' } }));
  await attempt('fetch that posts text', text('runs', post('text/plain')));
  await attempt('fetch that posts text without CORS', text('runs', post('text/plain', { mode: 'no-cors' })));
  await attempt('fetch that posts a form', text('runs', post('application/x-www-form-urlencoded', { mode: 'no-cors' })));
  await attempt('fetch that posts parts', text('runs', { method: 'POST', mode: 'no-cors', body: form }));
  await attempt('fetch that posts JSON', text('runs', post('application/json')));
  await attempt('fetch that posts JSON with a guess', text('runs?code=guess', post('application/json')));
  await attempt('fetch that posts nothing', text('runs', { method: 'POST', mode: 'no-cors' }));
  await attempt('fetch of what Azure is asked for', text('images/usage', { mode: 'no-cors' }));
  await attempt('beacon', async () => navigator.sendBeacon(`${api}/runs`, body));
  await attempt('XMLHttpRequest', () => new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.onload = () => done(request.responseText);
    request.onerror = () => failed(new Error('no answer'));
    request.open('GET', `${api}/images?top=1`);
    request.send();
  }));
  await attempt('rebinding', async () => {
    if (location.host.split(':')[1] !== victim.split(':')[1]) return 'another port';
    const started = await fetch('/api/runs', post('application/json'));
    return (await (await fetch('/api/images?top=1')).text()) + started.status;
  });
  const loaded = (name, path, more) => () => new Promise(done => {
    const element = Object.assign(document.createElement(name), more);
    element.onload = () => {
      let text = `loaded ${element.naturalWidth ?? ''}`;
      try {
        text += element.contentDocument?.body?.textContent ?? '';
      } catch (error) {
        text += error.name;
      }
      done(text);
    };
    element.onerror = () => done('not loaded');
    element[name === 'link' ? 'href' : 'src'] = `${api}/${path}`;
    document.body.append(element);
  });
  await attempt('image', loaded('img', 'images/usage?top=1'));
  await attempt('image of a live lookup', loaded('img', 'images?live=true&publisher=debian&location=eastus'));
  await attempt('script', loaded('script', 'images?top=1'));
  await attempt('frame', loaded('iframe', 'images?top=1'));
  await attempt('style', loaded('link', 'images?top=1', { rel: 'stylesheet' }));
  await attempt('WebSocket', () => new Promise(done => {
    const socket = new WebSocket(`ws://${victim}/api/images?top=1`);
    socket.onmessage = event => done(event.data);
    socket.onerror = () => done('refused');
  }));
  await attempt('events', () => new Promise(done => {
    const events = new EventSource(`${api}/images?top=1`);
    events.onmessage = event => done(event.data);
    events.onerror = () => { events.close(); done('refused'); };
  }));
  for (const enctype of ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data']) {
    await attempt(`form ${enctype}`, () => new Promise(done => {
      const frame = Object.assign(document.createElement('iframe'), { name: `to ${enctype}` });
      document.body.append(frame);
      const form = Object.assign(document.createElement('form'),
        { method: 'POST', action: `${api}/runs`, enctype, target: frame.name });
      form.append(Object.assign(document.createElement('input'), { name: '{"full":true,"x":"', value: '"}' }));
      document.body.append(form);
      // The first load is that of the empty frame.
      frame.onload = () => {
        try {
          done(frame.contentDocument.body.textContent);
        } catch (error) {
          done(error.name);
        }
      };
      form.submit();
    }));
  }
  return results;
}

// Runs in a page that may read: what it gets from `base`.
async function own({ base, key }) {
  const ask = async (path, options) => {
    const answer = await fetch(`${base}/api/${path}`, options);
    return { status: answer.status, etag: answer.headers.get('etag'), text: (await answer.text()).slice(0, 200) };
  };
  const start = more => ({ method: 'POST', body: '{"force":true}', headers: { 'content-type': 'application/json', ...more } });
  return {
    images: await ask('images?top=1'),
    live: await ask('images?live=true&publisher=debian'),
    without: await ask('runs', start({})),
    with: await ask('runs', start({ 'x-functions-key': key })),
  };
}

try {
  const page = await browser.newPage();
  let result;
  if (task.task === 'attack') {
    result = [];
    for (const url of task.pages) {
      await page.goto(url);
      result.push({ page: url, attacks: await page.evaluate(attack, task.victim) });
    }
  } else {
    await page.goto(task.page);
    result = await page.evaluate(own, { base: task.host ?? '', key: task.key });
  }
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
