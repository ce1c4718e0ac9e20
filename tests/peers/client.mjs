// One request by Node, as a program would make it: proxy and CA by environment (NODE_USE_ENV_PROXY).
//
// client.mjs fetch URL: prints the answer. client.mjs https URL: the same by the older module.
// client.mjs events URL: reads an event stream; confirms its first event before it waits for the next.
// client.mjs socket URL: says something on a WebSocket and prints the reply.
// Ends with 1 where the status is no success or Node gave up.

import https from 'node:https';
import { once } from 'node:events';

const chain = (error) => (error ? `${error.name}: ${error.message}\n${chain(error.cause)}` : '');

async function viaFetch(url) {
  const answer = await fetch(url);
  console.log('status', answer.status, await answer.text());
  return answer.ok;
}

async function viaHttps(url) {
  const [answer] = await once(https.get(url), 'response');
  let text = '';
  for await (const part of answer) text += part;
  console.log('status', answer.statusCode, text);
  return answer.statusCode === 200;
}

async function events(url) {
  const answer = await fetch(url);
  let text = '';
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text === 'data: first\n\n') await (await fetch(url.replace('/events/', '/confirm/'))).text();
  }
  console.log(text);
  return answer.ok;
}

async function socket(url) {
  const socket = new WebSocket(url);
  const reply = new Promise((resolve, reject) => {
    socket.addEventListener('open', () => socket.send('hello'));
    socket.addEventListener('message', (event) => resolve(event.data));
    socket.addEventListener('error', (event) => reject(event.error ?? new Error('the WebSocket failed')));
  });
  console.log(await reply);
  socket.close();
  return true;
}

const actions = { fetch: viaFetch, https: viaHttps, events, socket };
const [action, url] = process.argv.slice(2);
try {
  process.exitCode = (await actions[action](url)) ? 0 : 1;
} catch (error) {
  console.error(chain(error));
  process.exitCode = 1;
}
