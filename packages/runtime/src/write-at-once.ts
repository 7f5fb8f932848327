import type { Socket } from 'node:net';

const NOTHING = new Uint8Array(0);

/** Larger ones often do not fit into what the kernel holds for a unix socket (208 KiB by default). */
const AT_ONCE_BYTES_MAX = 64 * 1024;

/**
 * Writes, and calls `sent` when the socket does not need the bytes any more (also if it is gone): in this call if the kernel takes them all at
 * once. A callback of the write itself comes in a tick of its own even then, which costs a twentieth of a small request, and keeps memory from
 * being used again while it is in the processor's cache. Where it does not, the second write that the callback needs costs more than that.
 */
export function writeAtOnce(socket: Socket, bytes: Uint8Array, sent: () => void): void {
  if (bytes.length > AT_ONCE_BYTES_MAX || socket.writableLength > 0) {
    socket.write(bytes, sent);
    return;
  }
  socket.write(bytes);
  if (socket.writableLength === 0) sent();
  else socket.write(NOTHING, sent);
}
