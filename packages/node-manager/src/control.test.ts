import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { controlAt } from './control.ts';

/** RFC 6455, 1.3. */
const accept = (key: string): string => createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

test('a system manager that is there and never answers keeps nobody waiting for ever', async () => {
  const sockets: Duplex[] = [];
  const server = createServer().on('upgrade', (request, socket) => {
    sockets.push(socket);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept(request.headers['sec-websocket-key'] ?? '')}\r\n\r\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const control = controlAt(() => ({ endpoint, token: 'x' }), 50);
  await expect(control.call({ kind: 'host-list' })).rejects.toMatchObject({ code: 'unavailable', retry: 'later', message: expect.stringContaining('host-list') as unknown });
  for (const socket of sockets) socket.destroy();
  server.close();
});
