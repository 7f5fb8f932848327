import type { ApiClient, VolumeView } from '@ashlar/client';
import type { LoadOptions, LoadResult, LoadTarget } from '@ashlar/load';
import { AshlarError, volumeId } from '@ashlar/words';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showSize, parseCount, parseDuration, parseSize } from './sizes.ts';

interface LoadCommandOptions {
  readonly volumes?: string;
  readonly size: string;
  readonly mirrors: string;
  readonly read: string;
  readonly block: string;
  readonly depth: string;
  readonly rate?: string;
  readonly flushEvery?: string;
  readonly duration: string;
  readonly seed?: string;
  readonly keep?: boolean;
}

/** The load-test harness: volumes of its own or given ones, a mix, and every block checked. */
export function addLoad(program: Command, cli: Cli): void {
  program.command('load').description('load on volumes, every block of it verified; exit code 1 if anything was wrong')
    .argument('[volumes...]', 'attached volumes whose content may be overwritten, or NBD addresses; without any, volumes are made for it')
    .option('--volumes <n>', 'how many volumes to make (default: 1)')
    .option('--size <size>', 'of each, or the part of each that is used', '256MiB')
    .option('--mirrors <n>', 'of the volumes made', '1')
    .option('--read <percent>', 'reads among the requests', '70')
    .option('--block <size[-size]>', 'bytes of a request, or from-to', '4KiB')
    .option('--depth <n>', 'requests in flight a volume', '32')
    .option('--rate <n>', 'requests a second over all volumes, instead of as many as are answered')
    .option('--flush-every <n>', 'a flush after so many writes')
    .option('--duration <duration>', 'of the load', '10s')
    .option('--seed <n>', 'the same requests again')
    .option('--keep', 'volumes that were made are not deleted')
    .action((volumes: string[], options: LoadCommandOptions) => load(cli, volumes, options));
}

async function load(cli: Cli, given: readonly string[], options: LoadCommandOptions): Promise<void> {
  const direct = given.length > 0 && given.every((text) => text.startsWith('nbd'));
  const client = direct ? null : await cli.connect();
  const made: string[] = [];
  try {
    const targets = direct ? given.map((uri) => ({ volume: uri, uri })) : await prepare(client as ApiClient, given, options, made);
    const { runLoad } = await import('@ashlar/load');
    const result = await runLoad(loadOptions(targets, options));
    cli.print(result, showLoad);
    if (result.violationCount > 0 || result.errorCount > 0) throw new AshlarError(result.violationCount > 0 ? 'corrupt' : 'io-error', `${result.violationCount} blocks were wrong, ${result.errorCount} requests failed`);
  } finally {
    if (client !== null) {
      if (options.keep !== true) for (const id of made) await discard(client, id);
      client.close();
    }
  }
}

function loadOptions(targets: readonly LoadTarget[], options: LoadCommandOptions): LoadOptions {
  const [least, most] = options.block.split('-').map(parseSize) as [number, number?];
  return {
    targets, regionBytes: parseSize(options.size), readPercent: parseCount(options.read, '--read', 0, 100), bytesMin: least, bytesMax: most ?? least,
    depth: parseCount(options.depth, '--depth', 1, 1024), durationMs: parseDuration(options.duration),
    ...(options.rate === undefined ? {} : { rate: parseCount(options.rate, '--rate', 1, 1e7) }),
    ...(options.flushEvery === undefined ? {} : { flushEvery: parseCount(options.flushEvery, '--flush-every', 1, 1e6) }),
    ...(options.seed === undefined ? {} : { seed: parseCount(options.seed, '--seed', 0, 2 ** 32 - 1) }),
  };
}

async function prepare(client: ApiClient, given: readonly string[], options: LoadCommandOptions, made: string[]): Promise<LoadTarget[]> {
  const targets: LoadTarget[] = [];
  for (const text of given) {
    const view = await client.call({ kind: 'volume-describe', volumeId: volumeId(text) }) as VolumeView;
    const attachment = view.attachments.find((known) => known.nbd !== null && !known.readOnly);
    if (attachment === undefined) throw new AshlarError('not-attached', `${text} is not attached for writing`);
    targets.push({ volume: text, uri: attachment.nbd as string });
  }
  if (given.length > 0) return targets;
  const count = parseCount(options.volumes ?? '1', '--volumes', 1, 10_000);
  for (let i = 0; i < count; i++) {
    const view = await client.call({
      kind: 'volume-create', sizeBytes: parseSize(options.size), mirrors: parseCount(options.mirrors, '--mirrors', 0, 1000), minCopies: 1, durability: 'normal',
      limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: { 'made-by': 'ashlar load' },
    }) as VolumeView;
    made.push(view.volumeId);
    const attached = await client.call({ kind: 'volume-attach', volumeId: view.volumeId, readOnly: false, tcp: false }) as { nbd: string };
    targets.push({ volume: view.volumeId, uri: attached.nbd });
  }
  return targets;
}

async function discard(client: ApiClient, id: string): Promise<void> {
  await client.call({ kind: 'volume-detach', volumeId: volumeId(id) });
  await client.call({ kind: 'volume-delete', volumeId: volumeId(id) });
}

function showLoad(result: LoadResult): string {
  const line = (name: string, latency: LoadResult['read']): string => `  ${name.padEnd(6)} ${String(latency.count).padStart(9)}  ${Object.entries(latency).filter(([key]) => key !== 'count').map(([key, value]) => `${key.replace(/Ms$/, '')} ${Number(value).toFixed(2)}`).join('  ')}`;
  return [
    `${result.volumes} volumes, ${result.seconds.toFixed(1)} s: ${Math.round(result.requestsPerSecond)} requests/s, ${showSize(result.readBytesPerSecond)}/s read, ${showSize(result.writeBytesPerSecond)}/s written (seed ${result.seed})`,
    '  latency in ms', line('read', result.read), line('write', result.write), line('flush', result.flush),
    `  longest stall ${result.longestStallMs.toFixed(1)} ms; ${result.reconnections} reconnections`,
    `  ${result.checkedBlocks} blocks checked at the end: ${result.violationCount} wrong; ${result.errorCount} requests failed`,
    ...result.violations.slice(0, 10).map((violation) => `    ${JSON.stringify(violation)}`),
    ...result.errors.slice(0, 10).map((error) => `    ${JSON.stringify(error)}`),
  ].join('\n');
}
