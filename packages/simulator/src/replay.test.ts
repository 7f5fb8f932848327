import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Trace } from './engine/trace.ts';
import { runSpec } from './plan.ts';
import { replay } from './replay.ts';
import { simulate } from './run.ts';

const spec = { ...runSpec(11, 'failover'), endMs: 1_500 };

describe('replay', () => {
  let directory = '';
  let shown = '';

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'replay-'));
    shown = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      shown += String(text);
      return true;
    });
  });

  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(directory, { recursive: true });
  });

  function logOf(): string {
    const lines: string[] = [];
    const outcome = simulate(spec, new Trace(false, (line) => { lines.push(line); }));
    expect(outcome.hash).toBe(simulate(spec).hash); // looking at the actors changes nothing
    const path = join(directory, 'a.log');
    writeFileSync(path, `{"spec":{}}\n${lines.join('\n')}\n`);
    return path;
  }

  it('shows what an event changed in whom', () => {
    replay(logOf(), { untilMs: Infinity, grep: 'leader.serving: false → true', state: false });
    expect(shown).toMatch(/^\d+\.\d+ .* → server-\d: .*\n\d+\.\d+ ## server-\d serving .*\n {4}server-\d .*leader\.serving: false → true$/m);
  });

  it('stops where it is told to, and shows how everybody stood', () => {
    const path = logOf();
    replay(path, { untilMs: 900, grep: 'nothing has this in it', state: true });
    const early = shown;
    expect(early).toMatch(/^server-1\n {4}up = true$/m);
    expect(early).toMatch(/^manager\n/m);
    shown = '';
    replay(path, { untilMs: Infinity, grep: 'nothing has this in it', state: true });
    expect(shown).not.toBe(early);
  });
});
