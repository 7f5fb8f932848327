import type { EventRecord } from '@ashlar/client';

/** Something that the demo did or measured, beside what the site recorded. */
export interface Mark {
  readonly atMs: number;
  readonly text: string;
}

interface Lane {
  role: 'primary' | 'mirror' | 'filling' | null;
  down: boolean;
}

const WIDTH = 12;
const SHOWN: Readonly<Record<string, (event: EventRecord) => string>> = {
  'volume-created': () => 'volume created',
  'attached': (event) => `attached on ${String(event.detail['host'])}`,
  'process-ended': (event) => `${event.subject}: process ${String(event.detail['pid'])} ${event.reason}`,
  'server-up': (event) => `${event.subject}: up again, as process ${String(event.detail['pid'])}`,
  'promoted': (event) => `${String(event.detail['to'])} is primary, epoch ${String(event.detail['epoch'])}`,
  'copy-removed': (event) => `${String(event.detail['serverId'])} leaves the set (${event.reason})`,
  'learner-added': (event) => `${String(event.detail['serverId'])}: ${event.reason}`,
  'learner-removed': (event) => `${String(event.detail['serverId'])} is not waited for any more`,
  'copy-joined': (event) => `${String(event.detail['serverId'])} is in sync (${event.reason})`,
};

/** What happened to one volume, a line an event, a column a server. Drawn from the site's event journal. */
export function picture(events: readonly EventRecord[], servers: readonly string[], volumeId: string, marks: readonly Mark[] = []): string[] {
  const lanes = new Map<string, Lane>(servers.map((server) => [server, { role: null, down: false }]));
  const started = events.find((event) => event.name === 'volume-created' && event.subject === volumeId);
  if (!started) return [];
  const rows = events
    .filter((event) => event.sequence >= started.sequence && event.name in SHOWN && (event.subject === volumeId || lanes.has(event.subject)) && event.detail['readOnly'] !== true)
    .map((event) => ({ atMs: event.atMs, event, text: (SHOWN[event.name] as (event: EventRecord) => string)(event) }));
  const all = [...rows, ...marks.map((mark) => ({ ...mark, event: null }))].sort((a, b) => a.atMs - b.atMs);
  const lines = [`${'seconds'.padStart(9)}  ${servers.map((server) => server.padEnd(WIDTH)).join('')}what happened`];
  for (const { atMs, event, text } of all) {
    if (event) apply(lanes, event);
    const columns = servers.map((server) => cell(lanes.get(server) as Lane).padEnd(WIDTH)).join('');
    lines.push(`${((atMs - started.atMs) / 1000).toFixed(3).padStart(9)}  ${columns}${text}`);
  }
  return lines;
}

function cell({ role, down }: Lane): string {
  if (down) return role === null ? '✗' : `✗ ${role}`;
  switch (role) {
    case 'primary': return '█ primary';
    case 'mirror': return '▓ mirror';
    case 'filling': return '░ filling';
    case null: return '·';
  }
}

function apply(lanes: ReadonlyMap<string, Lane>, { name, subject, detail }: EventRecord): void {
  const lane = (id: unknown): Lane => lanes.get(String(id)) ?? { role: null, down: false };
  switch (name) {
    case 'volume-created':
      String(detail['servers']).split(' ').forEach((server, i) => { lane(server).role = i === 0 ? 'primary' : 'mirror'; });
      return;
    case 'promoted':
      for (const other of lanes.values()) if (other.role === 'primary') other.role = 'mirror';
      lane(detail['to']).role = 'primary';
      return;
    case 'process-ended':
      lane(subject).down = true;
      return;
    case 'server-up':
      lane(subject).down = false;
      return;
    case 'copy-removed':
    case 'learner-removed':
      lane(detail['serverId']).role = null;
      return;
    case 'learner-added':
      lane(detail['serverId']).role = 'filling';
      return;
    case 'copy-joined':
      lane(detail['serverId']).role = 'mirror';
      return;
    default: return;
  }
}
