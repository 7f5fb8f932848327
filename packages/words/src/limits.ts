/** Bounds that more than one package must agree on. Each package's own bounds are in its own `limits.ts`. */

/** 16 TiB: offsets in blocks then fit in 32 bits, and a copy's files stay below 1 TiB when striped. */
export const VOLUME_BYTES_MAX = 16 * 2 ** 40;
/** Largest single request; what Linux and QEMU send at most over NBD is 32 MiB. */
export const REQUEST_BYTES_MAX = 32 * 2 ** 20;
/** Requests in one frame. 256 is eight times the deepest queue of the usual benchmark, and keeps a frame's head under 32 KiB. */
export const FRAME_REQUESTS_MAX = 256;
/** Payload of one frame. One largest request must fit, with the gaps around it. */
export const FRAME_PAYLOAD_BYTES_MAX = REQUEST_BYTES_MAX + 64 * 2 ** 10;
/** Requests of one attachment that may be unanswered at a time; beyond it the connection is not read from. */
export const UNANSWERED_MAX = 1024;
