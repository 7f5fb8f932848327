import { describe, expect, it } from 'vitest';
import { complete, type IdKind } from './completion.ts';
import { programOf } from './program.ts';

const IDS: Readonly<Record<IdKind, readonly string[]>> = { volume: ['vol-0123456789abcdef0', 'vol-1123456789abcdef0'], server: ['server-1', 'server-2'], host: ['host-1'] };

async function after(...words: string[]): Promise<string[]> {
  const { program } = programOf({});
  const found = await complete(program, words, (kind) => Promise.resolve(IDS[kind].map((text) => ({ text, what: kind }))));
  return found.map(({ text }) => text);
}

describe('completion', () => {
  it('knows the commands, and those below them', async () => {
    expect(await after('vol')).toEqual(['volume']);
    expect((await after('volume', 'de')).sort()).toEqual(['delete', 'describe', 'detach']);
    expect(await after('')).toEqual(expect.arrayContaining(['up', 'volume', 'server', 'host', 'events', 'doctor', 'completion', 'load']));
    expect(await after('')).not.toContain('__complete');
    expect(await after('no-such-command', '')).toEqual([]);
  });

  it('offers options where one was begun, and their values', async () => {
    expect((await after('volume', 'create', '--mi')).sort()).toEqual(['--min-copies', '--mirrors']);
    expect(await after('--en')).toEqual(['--endpoint']);
    expect(await after('volume', 'failover', 'vol-0123456789abcdef0', '--to', '')).toEqual(['server-1', 'server-2']);
    expect(await after('volume', 'attach', '--host', 'h')).toEqual(['host-1']);
    expect(await after('volume', 'create', '--size', '')).toEqual([]);
    expect(await after('up', '--dir', '')).toEqual([':files']);
    expect(await after('completion', 'b')).toEqual(['bash']);
  });

  it('offers ids of the right kind, also behind options', async () => {
    expect(await after('volume', 'describe', 'vol-0')).toEqual(['vol-0123456789abcdef0']);
    expect(await after('volume', 'describe', '--json', '')).toEqual(IDS.volume);
    expect(await after('volume', 'attach', '--host', 'host-1', '--read-only', '')).toEqual(IDS.volume);
    expect(await after('--endpoint', 'ws://127.0.0.1:1', 'server', 'stop', '')).toEqual(IDS.server);
    expect(await after('load', 'vol-0123456789abcdef0', '')).toEqual(IDS.volume);
    expect(await after('volume', 'describe', 'vol-0123456789abcdef0', '')).toEqual([]);
  });
});
