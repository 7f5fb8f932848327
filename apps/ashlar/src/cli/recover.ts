import type { RecoveredVolume, RecoveryView } from '@ashlar/client';
import { serverId } from '@ashlar/words';
import type { Command } from 'commander';
import type { Cli } from './cli.ts';
import { showSize } from './sizes.ts';

export function addRecover(program: Command, cli: Cli): void {
  program.command('recover').description('rebuild a metadata store that is lost or old from what the servers keep; attached volumes go on')
    .option('--dry-run', 'only show what would be done, what is not known, and what is lost')
    .option('--without <server...>', 'give up what only this server knows: it does not come back')
    .action(async (options: { dryRun?: boolean; without?: string[] }) => cli.call({ kind: 'recover', dryRun: options.dryRun === true, without: (options.without ?? []).map(serverId) }, (value) => showRecovery(value as RecoveryView)));
}

function showRecovery({ applied, cluster, heard, without, volumes, blocked, lost }: RecoveryView): string {
  const restored = volumes.filter(({ outcome }) => outcome === 'restored');
  const others = volumes.filter(({ outcome }) => outcome !== 'restored');
  const lines = [
    `${applied ? 'The metadata store was rebuilt' : 'What would be done'}${cluster === '' ? '' : `: ${cluster}`}`,
    `  heard       ${heard.length === 0 ? 'no server' : heard.join(' ')}${without.length > 0 ? `; given up: ${without.join(' ')}` : ''}`,
    `  volumes     ${restored.length} ${applied ? 'are known again' : 'become known again'}${others.length > 0 ? `, ${others.length} do not` : ''}`,
    ...volumes.filter(({ notes, outcome }) => notes.length > 0 || outcome === 'unknown').map(showVolume),
    ...lost.map((what) => `  lost        ${what}`),
    ...blocked.map((why) => `  blocked     ${why}`),
  ];
  return lines.join('\n');
}

function showVolume({ volumeId, outcome, sizeBytes, epoch, notes }: RecoveredVolume): string {
  const about = outcome === 'restored' ? `${showSize(sizeBytes)}, epoch ${epoch}` : outcome;
  return `    ${volumeId}  ${about}${notes.length > 0 ? `: ${notes.join('; ')}` : ''}`;
}
