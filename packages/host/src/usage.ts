import type { Usage } from '@ashlar/protocol';

export const NO_USAGE: Usage = { readBytes: 0, writeBytes: 0, readRequests: 0, writeRequests: 0, flushRequests: 0, failedRequests: 0, longestStallMs: 0 };

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    readBytes: a.readBytes + b.readBytes, writeBytes: a.writeBytes + b.writeBytes, readRequests: a.readRequests + b.readRequests, writeRequests: a.writeRequests + b.writeRequests,
    flushRequests: a.flushRequests + b.flushRequests, failedRequests: a.failedRequests + b.failedRequests, longestStallMs: Math.max(a.longestStallMs, b.longestStallMs),
  };
}

export function sameUsage(a: Usage, b: Usage): boolean {
  return a.readRequests === b.readRequests && a.writeRequests === b.writeRequests && a.flushRequests === b.flushRequests && a.failedRequests === b.failedRequests
    && a.readBytes === b.readBytes && a.writeBytes === b.writeBytes && a.longestStallMs === b.longestStallMs;
}
