// A browser for tests/it/browser.rs. Answers each line of JSON with a line of JSON that describes the page.
//   {"new": {"scripts": true, "width": 900}}   a new profile                  -> {}
//   {"open": "http://…"}                       opens an address
//   {"press": "#continue"}                     clicks an element
//   {"choose": ["#user", "anna@…"]}            selects an option, without a click
//   {"tab": 2}                                 presses the tab key            -> {"focus": ["…"]}
//   {"ask": "http://…", "token": "8A:…"}       calls the Web API              -> its JSON
//   {"portal": true}                           starts a page to return to     -> {"portal": "http://…"}
// With "shot", the page is saved as an image of that name.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const [modules, executablePath, shots] = process.argv.slice(2);
const require = createRequire(modules + '/');
const { chromium } = require('playwright-core');
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
// The browser's sandbox needs more rights than a container has, and only test pages are opened.
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

const welcome = '<!doctype html><html lang="en"><title>Portal</title><main><h1>Portal</h1></main></html>';
const portal = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(welcome));
await new Promise((listening) => portal.listen(0, '127.0.0.1', listening));

let page, status, complaints, scripts;

async function begin(options) {
  if (page) await page.context().close();
  scripts = options.scripts;
  const viewport = { width: options.width, height: 700 };
  const context = await browser.newContext({ javaScriptEnabled: scripts, viewport });
  page = await context.newPage();
  complaints = [];
  // Includes violations of the content security policy. Messages about a status other than 200 are expected.
  page.on('console', (line) => {
    const text = line.text();
    if (['error', 'warning'].includes(line.type()) && !text.startsWith('Failed to load resource')) complaints.push(text);
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('requestfailed', (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
  page.on('response', (response) => {
    if (response.request().isNavigationRequest()) status = response.status();
    else complaints.push(`something else is loaded: ${response.url()}`);
  });
  return {};
}

// The visible content, and the content for screen readers.
async function shown(shot) {
  if (shot) await page.screenshot({ path: join(shots, `${shot}.png`), fullPage: true });
  const seen = await page.evaluate(() => ({
    title: document.title,
    language: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1')].map((heading) => heading.innerText),
    landmarks: document.querySelectorAll('main').length,
    text: document.body.innerText,
    scrolls: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  }));
  const cookies = await page.context().cookies();
  const found = { url: page.url(), status, ...seen, complaints, cookies, barriers: [] };
  if (scripts) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run());
    found.barriers = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
  }
  return found;
}

async function focus(times) {
  const focus = [];
  for (let time = 0; time < times; time += 1) {
    await page.keyboard.press('Tab');
    focus.push(await page.evaluate(() => document.activeElement.innerText));
  }
  return { focus };
}

async function answer({ new: options, portal: asked, open, press, choose, tab, ask, token, shot }) {
  if (asked) return { portal: `http://127.0.0.1:${portal.address().port}/` };
  if (options) return begin(options);
  if (tab) return focus(tab);
  if (ask) {
    const headers = { authorization: `Bearer ${token}`, accept: 'application/json' };
    return (await fetch(ask, { headers })).json();
  }
  if (open) await page.goto(open);
  if (choose) await page.selectOption(...choose);
  if (press) await Promise.all([page.waitForNavigation(), page.click(press)]);
  return shown(shot);
}

for await (const line of createInterface({ input: process.stdin })) {
  const told = await answer(JSON.parse(line)).catch((error) => ({ failed: String(error) }));
  console.log(JSON.stringify(told));
}
await browser.close();
portal.close();
