import { existsSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { get as getOverTls } from 'node:https';
import { resolve } from 'node:path';
import type { ApiClient, ClusterStatus, HostView, ManagerView, ServerView, VolumeView } from '@ashlar/client';
import { BUILD } from '@ashlar/runtime/build';
import { defaultRoot } from '@ashlar/site/layout';
import { ERROR_CODES, errorCode, type AshlarError } from '@ashlar/words';
import type { Command } from 'commander';
import { isSick, worstFirst, type Finding } from '../doctor/finding.ts';
import { lookAtMachine } from '../doctor/look.ts';
import { judgeMachine } from '../doctor/machine.ts';
import { judgeSite, type LagFacts } from '../doctor/site.ts';
import type { Cli } from './cli.ts';

interface DoctorOptions {
  readonly config?: string;
  readonly dir?: string;
  readonly machine?: boolean;
}

interface Report {
  /** What was looked at. */
  readonly machine: { readonly directory: string; readonly node: string; readonly kernel: string };
  readonly site: { readonly endpoint: string; readonly servers: number; readonly hosts: number; readonly volumes: number } | null;
  readonly findings: readonly Finding[];
}

const CONFIG = '/etc/ashlar/ashlard.yaml';
const FIGURES_MS = 15_000;

export function addDoctor(program: Command, cli: Cli): void {
  program.command('doctor').description('checks this machine and the site: what is wrong, what it means for the data, what to do; exit code 1 if anything is')
    .option('--config <file>', `of this machine's daemon (default: ${CONFIG}, if it is there)`)
    .option('--dir <directory>', 'of a site on this machine, or any to be looked at (default: $XDG_DATA_HOME/ashlar)')
    .option('--machine', 'this machine only')
    .action((options: DoctorOptions) => doctor(cli, options));
}

async function doctor(cli: Cli, options: DoctorOptions): Promise<void> {
  const { directory, disks } = await placesOf(options);
  const facts = await lookAtMachine(directory, disks, process.env);
  const looked = options.machine === true ? { site: null, findings: [] } : await lookAtSite(cli);
  const report: Report = { machine: { directory, node: facts.node, kernel: facts.kernel }, site: looked.site, findings: worstFirst([...judgeMachine(facts), ...looked.findings]) };
  cli.print(report, show);
  if (isSick(report.findings)) cli.exitCode = 1;
}

async function placesOf({ config, dir }: DoctorOptions): Promise<{ readonly directory: string; readonly disks: readonly string[] }> {
  const file = config ?? (dir === undefined && existsSync(CONFIG) ? CONFIG : undefined);
  if (file === undefined) return { directory: resolve(dir ?? defaultRoot()), disks: [] };
  const { readConfig } = await import('@ashlar/site');
  const { directory, storage } = readConfig(file);
  return { directory, disks: storage?.directories ?? [] };
}

async function lookAtSite(cli: Cli): Promise<Pick<Report, 'site' | 'findings'>> {
  let client: ApiClient;
  try {
    client = await cli.connect();
  } catch (error) {
    return { site: null, findings: [unreachable(error as AshlarError)] };
  }
  try {
    const manager = await client.call({ kind: 'manager-describe' });
    const [servers, hosts] = await Promise.all([client.call({ kind: 'server-list' }), client.call({ kind: 'host-list' })]) as [ServerView[], HostView[]];
    // It says nothing of volumes while it does not act.
    const volumes = manager.state === 'acting' ? await client.call({ kind: 'volume-list' }) as VolumeView[] : [];
    const cluster = manager.state === 'acting' ? await client.call({ kind: 'cluster-status' }) as ClusterStatus : null;
    const processes = (cluster?.processes ?? []).filter(({ state }) => state === 'up').map(({ name, build }) => ({ name, version: build?.version ?? null }));
    const { endpoint } = cli.site;
    const { lags, version, findings } = await figures(cli.site);
    return { site: { endpoint, servers: servers.length, hosts: hosts.length, volumes: volumes.length }, findings: [...judgeManager(manager), ...judgeSite({ servers, hosts, volumes, lags, processes, version, ownVersion: BUILD }), ...findings] };
  } finally {
    client.close();
  }
}

function judgeManager({ state, reason }: ManagerView): Finding[] {
  if (state === 'acting') return [];
  const code = state === 'refusing' ? 'store-behind' : 'busy';
  return [{ severity: 'error', check: 'manager', subject: 'system manager', message: reason, ...ERROR_CODES[code] }];
}

/** That no site was named is no illness: a machine may be looked at before it has one. */
function unreachable(error: AshlarError): Finding {
  const unnamed = errorCode(error) === 'invalid-argument';
  return {
    severity: unnamed ? 'note' : 'error', check: 'site', subject: 'system manager', message: error.message,
    effect: unnamed ? 'Only this machine was looked at.' : 'Attached volumes go on without it. What needs a decision of it waits: failovers, new copies, attaching.',
    action: unnamed ? 'Give --endpoint and --token, or ASHLAR_ENDPOINT and ASHLAR_TOKEN.' : 'See whether it runs (`systemctl status ashlard`, its log), and whether this is its address and token.',
  };
}

async function figures(site: Cli['site']): Promise<{ readonly lags: readonly LagFacts[]; readonly version: string | null; readonly findings: readonly Finding[] }> {
  try {
    const text = await figuresText(site);
    const lags = [...text.matchAll(/^ashlar_mirror_lag_seconds\{server="(.*?)",mirror="(.*?)"\} (\S+)$/gm)].map(([, server = '', mirror = '', seconds = '']) => ({ server, mirror, seconds: Number(seconds) }));
    return { lags, version: /^ashlar_build_info\{version="(.*?)"\} 1$/m.exec(text)?.[1] ?? null, findings: [] };
  } catch (error) {
    const message = `its figures could not be read: ${error instanceof Error ? error.message : String(error)}`;
    return { lags: [], version: null, findings: [{ severity: 'note', check: 'figures', subject: 'system manager', message, effect: 'How far mirrors are behind, and which version it is, was not looked at.', action: 'docs/metrics.md' }] };
  }
}

/** Not by fetch, which takes no authority of its own. */
function figuresText({ endpoint, token, ca }: Cli['site']): Promise<string> {
  const url = new URL('/metrics', endpoint.replace(/^ws/, 'http'));
  const options = { headers: { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(FIGURES_MS), agent: false as const };
  return new Promise((resolve, reject) => {
    const take = (answer: IncomingMessage): void => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => { text += part; });
      answer.on('error', reject);
      answer.on('end', () => (answer.statusCode === 200 ? resolve(text) : reject(new Error(`it answered ${answer.statusCode ?? 'nothing'}`))));
    };
    const asked = url.protocol === 'https:' ? getOverTls(url, { ...options, ...(ca === undefined ? {} : { ca }) }, take) : get(url, options, take);
    asked.on('error', reject);
  });
}

function show({ machine, site, findings }: Report): string {
  const looked = [`machine: ${machine.directory}, Node ${machine.node}, Linux ${machine.kernel}`, site === null ? 'site: not looked at' : `site: ${site.endpoint}, ${site.servers} servers, ${site.hosts} hosts, ${site.volumes} volumes`];
  const found = findings.flatMap(({ severity, subject, message, effect, action }) => ['', `${severity}: ${subject}: ${message}`, `  ${effect}`, `  ${action}`]);
  return [...looked, ...found, '', isSick(findings) ? `${findings.filter(({ severity }) => severity !== 'note').length} things to mend` : 'nothing to mend'].join('\n');
}
