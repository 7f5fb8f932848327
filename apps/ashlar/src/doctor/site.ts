import type { HostView, ServerView, VolumeView } from '@ashlar/client';
import { showSize } from '../cli/sizes.ts';
import type { Finding } from './finding.ts';

/** A mirror, and how long it has owed something without a word. */
export interface LagFacts {
  readonly server: string;
  readonly mirror: string;
  readonly seconds: number;
}

/** What a site, or cluster, says of itself. */
export interface SiteFacts {
  readonly servers: readonly ServerView[];
  readonly hosts: readonly HostView[];
  readonly volumes: readonly VolumeView[];
  readonly lags: readonly LagFacts[];
  /** Processes that run, and their versions; null: it does not say, so that it is older than those that do. */
  readonly processes: readonly { readonly name: string; readonly version: string | null }[];
  /** Of the system manager; null: it does not say. */
  readonly version: string | null;
  /** Of this program. */
  readonly ownVersion: string;
}

const USED_HIGH = 0.85;
const USED_VERY_HIGH = 0.95;
/** A write waits for every mirror; after a few seconds of silence one is taken out, unless all are slow. */
const LAG_SECONDS_MAX = 2;
/** What is listed one by one; more of a kind are counted. */
const LISTED_MAX = 20;

/** Judges a site by what it says. Nothing is looked at here. */
export function judgeSite(facts: SiteFacts): readonly Finding[] {
  const { servers, hosts, volumes, lags, version, ownVersion, processes } = facts;
  return [
    ...servers.flatMap(judgeServer), ...hosts.flatMap(judgeHost), ...few(volumes.flatMap(judgeVolume)), ...few(lags.flatMap(judgeLag)), ...judgePlaces(facts),
    ...(version === null || version === ownVersion ? [] : [versions(version, ownVersion)]),
    ...(version === null ? [] : few(processes.flatMap((process) => judgeVersion(process, version)))),
  ];
}

function judgeServer({ serverId, state, capacityBytes, usedBytes, copies, directories }: ServerView): Finding[] {
  const found = directories.flatMap((directory) => judgeDisk(serverId, directory));
  if (state !== 'up' && state !== 'draining') {
    found.push({
      severity: copies > 0 ? 'error' : 'warning', check: 'servers', subject: serverId, message: `it is ${state}`,
      effect: copies > 0 ? `${copies} volumes lack a copy that they had here; they go on with the others, if there are any.` : 'No volume has a copy here. New copies have one place less.',
      action: `Start it again; if it is gone for good: \`ashlar server lost ${serverId}\`. docs/runbooks/machine-lost.md`,
    });
  }
  const used = capacityBytes > 0 ? usedBytes / capacityBytes : 0;
  if (used >= USED_HIGH) {
    found.push({
      severity: used >= USED_VERY_HIGH ? 'error' : 'warning', check: 'space', subject: serverId, message: `${showSize(capacityBytes - usedBytes)} of ${showSize(capacityBytes)} are free`,
      effect: 'When it is full, writes of its volumes wait and then fail; what was answered is safe.', action: 'docs/runbooks/server-full.md',
    });
  }
  return found;
}

function judgeDisk(serverId: string, { path, health, ioErrors, mismatches, syncMs }: ServerView['directories'][number]): Finding[] {
  if (health === 'ok') return [];
  return [{
    severity: health === 'suspect' ? 'warning' : 'error', check: 'disks', subject: `${serverId}: ${path}`, message: `it is ${health}: ${ioErrors} errors, ${mismatches} blocks with wrong bytes, ${Math.round(syncMs)} ms a sync`,
    effect: health === 'suspect' ? 'Nothing is lost: bad blocks were repaired from other copies, or refused. Writes may wait for it.' : 'Copies on it leave the set in sync, and are built anew elsewhere.', action: 'docs/runbooks/disk-lost.md',
  }];
}

function judgeHost({ hostId, state, attachments }: HostView): Finding[] {
  if (state === 'up') return [];
  return [{
    severity: attachments > 0 ? 'warning' : 'note', check: 'hosts', subject: hostId, message: `it is ${state}${attachments > 0 ? `, with ${attachments} attachments` : ''}`,
    effect: 'If it only cannot reach the system manager, its volumes go on, and do not hear of a new primary. If it is gone, its programs are too.', action: 'See whether its machine runs and reaches the system manager. To attach elsewhere: `ashlar volume detach VOLUME`, with `--force` if it is gone.',
  }];
}

function judgeVolume({ volumeId, health, state, mirrors, minCopies, copies }: VolumeView): Finding[] {
  if (state === 'deleting') return [];
  const wanted = mirrors + 1;
  const inSync = copies.filter((copy) => copy.role !== 'learner' && copy.state === 'in-sync').length;
  const coming = copies.some((copy) => copy.state === 'catching-up' || copy.state === 'rebuilding');
  const found: Finding[] = [];
  if (health === 'faulted') {
    found.push({ severity: 'error', check: 'volumes', subject: volumeId, message: `it is faulted: ${inSync} copies in sync, ${minCopies} needed`, effect: 'Its requests wait, then fail. What was answered is on the copies that were in sync.', action: 'docs/runbooks/volume-stalled.md' });
  } else if (health === 'unknown') {
    found.push({ severity: 'warning', check: 'volumes', subject: volumeId, message: 'its primary has not said yet how it stands', effect: 'Nothing is known to be wrong. It may not answer yet.', action: 'Ask again in a few seconds; then docs/runbooks/volume-stalled.md' });
  } else if (inSync < wanted) {
    found.push({
      severity: inSync === 1 ? 'error' : 'warning', check: inSync === 1 ? 'one-copy' : 'volumes', subject: volumeId, message: `${inSync} of ${wanted} copies are in sync${coming ? '; another is being brought up to date' : ''}`,
      effect: inSync === 1 ? 'The loss of one disk would lose it.' : 'Nothing is lost; it is nearer to loss than it should be.', action: coming ? 'Wait for it: `ashlar volume describe`.' : 'docs/runbooks/volume-degraded.md',
    });
  } else if (wanted === 1) {
    found.push({ severity: 'note', check: 'one-copy', subject: volumeId, message: 'it has no mirror, as it was asked for', effect: 'The loss of one disk would lose it.', action: `\`ashlar volume modify ${volumeId} --mirrors 1\`, if it is worth more.` });
  }
  for (const { serverId, state: copyState } of copies) {
    if (copyState === 'faulted') found.push({ severity: 'error', check: 'copies', subject: `${volumeId} on ${serverId}`, message: 'the copy is faulted', effect: 'It takes no writes any more, and does not count.', action: 'docs/runbooks/copy-faulted.md' });
  }
  return found;
}

function judgeLag({ server, mirror, seconds }: LagFacts): Finding[] {
  if (seconds < LAG_SECONDS_MAX) return [];
  return [{ severity: 'warning', check: 'lag', subject: `${server} → ${mirror}`, message: `a mirror on ${mirror} has not acknowledged anything for ${seconds.toFixed(1)} s`, effect: 'No data is at risk. Writes of that volume wait for it, if it is in sync.', action: `Look at the disk and the processor of ${mirror}, and at the link between the two.` }];
}

/** Only where every server is known to be on one machine: sockets of one kernel. */
function judgePlaces({ servers, volumes }: SiteFacts): Finding[] {
  const together = servers.length > 1 && servers.every(({ address }) => address === 'in-process' || address.startsWith('/'));
  if (!together || !volumes.some(({ mirrors }) => mirrors > 0)) return [];
  return [{ severity: 'note', check: 'one-machine', subject: 'servers', message: 'all servers are on one machine', effect: 'The copies of a volume share its power, and perhaps its disk.', action: 'For data that must outlive the machine: servers on machines of their own.' }];
}

function versions(version: string, ownVersion: string): Finding {
  return { severity: 'warning', check: 'versions', subject: 'system manager', message: `it runs ${version}; this program is ${ownVersion}`, effect: 'Adjacent versions work together. An upgrade is perhaps half done.', action: 'docs/runbooks/upgrade.md' };
}

/** Of a process, beside that of the system manager. */
function judgeVersion({ name, version }: SiteFacts['processes'][number], others: string): Finding[] {
  if (version === others) return [];
  return [{ severity: 'warning', check: 'versions', subject: name, message: `it runs ${version ?? 'a version that does not say which it is'}; the system manager ${others}`, effect: 'Adjacent versions work together. An upgrade is half done.', action: 'docs/runbooks/upgrade.md' }];
}

function few(findings: readonly Finding[]): readonly Finding[] {
  const groups = Map.groupBy(findings, ({ check, severity }) => `${check} ${severity}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (group.length <= LISTED_MAX || first === undefined) return group;
    return [...group.slice(0, LISTED_MAX), { ...first, subject: `${group.length - LISTED_MAX} more`, message: 'as those before' }];
  });
}
