import { describe, expect, it } from 'vitest';
import { parseNbdUri } from './uri.ts';

describe('an NBD URI', () => {
  it('names a socket or a host, and an export', () => {
    expect(parseNbdUri('nbd+unix:///vol-1:ro?socket=/run/a+b/host%201.nbd')).toEqual({ exportName: 'vol-1:ro', tls: false, address: { path: '/run/a+b/host 1.nbd' } });
    expect(parseNbdUri('nbd://127.0.0.1:4000/vol-1@server-1')).toEqual({ exportName: 'vol-1@server-1', tls: false, address: { host: '127.0.0.1', port: 4000 } });
    expect(parseNbdUri('nbds://[::1]')).toEqual({ exportName: '', tls: true, address: { host: '::1', port: 10_809 } });
    expect(parseNbdUri('nbds+unix:///?socket=s')).toEqual({ exportName: '', tls: true, address: { path: 's' } });
  });

  it('is refused where it says nothing', () => {
    for (const wrong of ['', 'http://x', 'nbd+unix:///x', 'nbd+unix:///x?socket=', 'nbd:///x', 'nbd']) expect(() => parseNbdUri(wrong)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});
