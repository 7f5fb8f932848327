import { Op } from '@ashlar/protocol';
import { BLOCK_BYTES, Prng } from '@ashlar/words';
import { TILE_BYTES } from '../../limits.ts';
import { TILE_BLOCKS } from '../../places.ts';
import type { RecordedChange } from '../../memory-disk.ts';
import type { CreateOptions } from '../../copy-store.ts';
import type { Change } from '../frames.ts';
import type { Content, Entry } from '../model.ts';
import { type Command, Rig } from '../rig.ts';
import type { Images } from './states.ts';

/** What was true when so many changes had been recorded. */
export interface Moment {
  readonly at: number;
  readonly life: number;
  readonly base: Content;
  readonly baseSeq: number;
  readonly entries: readonly Entry[];
  /** So many entries were promised to be stable. */
  readonly durable: number;
  readonly savedEpoch: number;
  /** Epochs up to this one were asked to be saved. */
  readonly askedEpoch: number;
}

export interface Workload {
  readonly seed: number;
  readonly options: CreateOptions;
  readonly start: Images;
  readonly recording: readonly RecordedChange[];
  readonly moments: readonly Moment[];
  readonly commands: readonly Command[];
  /** Blocks that were touched. */
  readonly blocks: readonly number[];
}

const SPOTS = [0, 1, 2, 5, 254, 255, 256, 257, 300];
/** Tiles that are written whole: few, so that they are overwritten and their places are used again. */
const TILES = [0, 1, 15, 16];
const FILLED_TILES = [2, 3, 4, 5];
const VOLUME_BLOCKS = 1536;

/** Runs a drawn sequence of commands over a disk that records every change. */
export function recordWorkload(seed: number, commandCount: number): Workload {
  const prng = new Prng(seed);
  return record(seed, commandCount, (_, askedEpoch) => draw(prng, askedEpoch, seed % 2 === 0, (seed >> 1) % 2 === 0));
}

/** The same with these commands. */
export function recordCommands(commands: readonly Command[]): Workload {
  return record(0, commands.length, (k) => commands[k] as Command);
}

function record(seed: number, commandCount: number, next: (k: number, askedEpoch: number) => Command): Workload {
  const rig = new Rig((at) => new Prng(at), { sizeBytes: VOLUME_BLOCKS * BLOCK_BYTES, journalBytesMax: 640 * 1024 });
  const start = rig.disk.images();
  const recording: RecordedChange[] = [];
  const moments: Moment[] = [];
  const commands: Command[] = [];
  let askedEpoch = 1;
  const note = (): void => {
    const { model } = rig;
    moments.push({
      at: recording.length, life: model.life, base: model.base, baseSeq: model.baseSeq, entries: [...model.entries], durable: model.durableEntries, savedEpoch: rig.savedEpoch, askedEpoch,
    });
  };
  rig.disk.recording = recording;
  rig.onPromise = note;
  note();
  for (let k = 0; k < commandCount; k++) {
    const command = next(k, askedEpoch);
    if (command.kind === 'save') askedEpoch = command.epoch;
    commands.push(command);
    try {
      rig.run(command);
    } catch (cause) {
      throw new Error(`workload ${seed}, command ${k}: ${JSON.stringify(command)}`, { cause });
    }
    note();
  }
  return { seed, options: rig.options, start, recording, moments, commands, blocks: [...SPOTS, 3, 4, 6, 7, 12, 15, 16, 17, 24, 31, 32, 47, 48, 63, 64, 79, 95, 111, 128, 239, 240, 247, 258, 260, 271, 272, 280, 287, 288, 301, 303, 304, 319, 335, 351, 367, 511, 1023, 1279, 1535] };
}

/** `tiles`: with writes of whole tiles. `fills`: with fills, and without zeroing whole extents: whether a fill may change those depends on what is destaged, and a source that tells the truth never notices. */
function draw(prng: Prng, askedEpoch: number, fills: boolean, tiles: boolean): Command {
  // History gives way, so that places are used again soon.
  if (tiles && prng.chance(0.1)) return { kind: 'shrink' };
  if (tiles && fills && prng.chance(0.08)) return { kind: 'fill', extent: prng.below(2), blocks: drawFilledTiles(prng), value: 1 + prng.below(250), age: prng.below(6) };
  const dice = prng.below(100);
  if (dice < 34) return { kind: 'append', changes: Array.from({ length: 1 + prng.below(3) }, () => (tiles && prng.chance(0.4) ? drawTiles(prng) : drawChange(prng, !fills))) };
  if (dice < 46) return { kind: 'sync' };
  if (dice < 60) return { kind: 'deliver', max: Infinity };
  if (dice < 66) return { kind: 'commit' };
  if (dice < 84) return { kind: 'destage', steps: 1 + prng.below(12), eager: prng.chance(0.8), ends: 'all' };
  if (dice < 88) return { kind: 'save', epoch: askedEpoch + 1 };
  if (dice < 91) return { kind: 'truncate', back: prng.below(4) };
  if (dice < 92) return { kind: 'restart-log', ahead: prng.below(5), common: prng.pick(['none', 'committed', 'last']), otherLineage: prng.chance(0.3) };
  if (dice < 95 && fills) return { kind: 'fill', extent: prng.below(2), blocks: [prng.below(4), 254, 255], value: prng.below(250), age: prng.below(6) };
  if (dice < 96) return { kind: 'process-crash' };
  if (dice < 97) return { kind: 'clean-reopen' };
  if (dice < 98) return { kind: 'clean-restart' };
  if (dice < 99) return { kind: 'shrink' };
  return { kind: 'grow', blocks: 1 };
}

function drawChange(prng: Prng, ranges: boolean): Change {
  const offset = prng.pick(SPOTS) * BLOCK_BYTES;
  const value = 1 + prng.below(250);
  const dice = prng.below(20);
  if (dice < 12) return { op: Op.write, offset, length: BLOCK_BYTES, value };
  if (dice < 14) return { op: Op.write, offset, length: 2 * BLOCK_BYTES, value };
  if (dice < 16) return { op: Op.write, offset: offset + 512 * prng.below(8), length: 512 * (1 + prng.below(9)), value };
  if (dice < 17) return { op: Op.zero, offset: offset + 512 * prng.below(8), length: 512 * (1 + prng.below(9)) };
  if (dice < 19 || !ranges) return { op: prng.pick([Op.trim, Op.zero]), offset, length: BLOCK_BYTES * (1 + prng.below(2)) };
  return { op: Op.zero, offset: 0, length: 1100 * BLOCK_BYTES };
}

/** Of an extent: tiles that nobody wrote yet, as when a copy is built, often with blocks beside them. */
function drawFilledTiles(prng: Prng): number[] {
  const first = prng.pick(FILLED_TILES) * TILE_BLOCKS;
  return Array.from({ length: prng.pick([TILE_BLOCKS, TILE_BLOCKS + 3, 2 * TILE_BLOCKS]) }, (_, k) => first + k);
}

/** Whole tiles, also within a write that begins or ends elsewhere. */
function drawTiles(prng: Prng): Change {
  const offset = prng.pick(TILES) * TILE_BYTES;
  const value = 1 + prng.below(250);
  const dice = prng.below(8);
  if (dice < 5) return { op: Op.write, offset, length: TILE_BYTES, value };
  if (dice < 6) return { op: Op.write, offset, length: 2 * TILE_BYTES, value };
  return { op: Op.write, offset: Math.max(0, offset - 512 * prng.below(12)), length: TILE_BYTES + 512 * prng.below(24), value };
}
