// A web server on Node's http that writes down how it understood each request, and answers "ok".
//
// Options: --address IP, --port N. Prints {"port": N}; appends one JSON line a request to record.jsonl.

import { appendFileSync } from 'node:fs';
import http from 'node:http';
import { parseArgs } from 'node:util';

const note = (line) => appendFileSync('record.jsonl', `${JSON.stringify(line)}\n`);

function headers(raw) {
  return Array.from({ length: raw.length / 2 }, (_, at) => [raw[2 * at], raw[2 * at + 1]]);
}

const server = http.createServer(async (request, response) => {
  const parts = [];
  try {
    for await (const part of request) parts.push(part);
  } catch {
    return; // the proxy may leave at any time
  }
  note({
    method: request.method,
    target: request.url,
    headers: headers(request.rawHeaders),
    body: Buffer.concat(parts).toString('latin1'),
  });
  response.end('ok');
});
server.on('clientError', (error, socket) => {
  if (error.code !== 'ECONNRESET') note({ refused: error.code });
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
});
const options = { address: { type: 'string' }, port: { type: 'string' } };
const { values } = parseArgs({ options });
server.listen(Number(values.port), values.address, () => console.log(JSON.stringify({ port: Number(values.port) })));
