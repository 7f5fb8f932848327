/** Everything that can go wrong, and what clients do beyond reading and writing. */
export const FAULT_KINDS = [
  // the network, as a share of messages
  'drop', 'duplicate', 'reorder', 'delay',
  // the network, as an event
  'cut-one-way', 'cut-both-ways', 'isolate', 'split',
  // processes
  'crash-server', 'crash-primary', 'crash-host', 'crash-manager', 'freeze-server', 'freeze-primary', 'freeze-turn', 'freeze-host', 'freeze-manager',
  'crash-at-disk-call', 'crash-copy', 'poison',
  // machines
  'power-one', 'power-all', 'power-at-disk-call', 'clean-restart',
  // disks
  'write-fails', 'disk-full', 'sync-fails', 'bit-rot', 'lost-write', 'misdirected-write', 'slow-disk', 'wiped-disk',
  // the metadata store
  'store-down', 'store-reply-lost', 'at-decision',
  // clocks
  'clock-rate', 'clock-jump',
  // what clients and operators do
  'reconnect', 'takeover', 'grow', 'failover-command', 'blind-failover', 'late-session', 'reader', 'scrub',
  // … and with its copies
  'move', 'move-ends', 'drain', 'mirrors',
  // the metadata store is another one than the manager left; an operator recovers it
  'store-lost', 'store-set-back',
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Scenario {
  readonly summary: string;
  readonly always: readonly FaultKind[];
  readonly sometimes: readonly FaultKind[];
  /** How likely each of `sometimes` is in one run. */
  readonly share: number;
  /** Mean time between planned faults. */
  readonly faultEveryMs: number;
  /** Virtual time during which faults happen and clients work. */
  readonly activeMs: number;
  readonly copies: readonly number[];
  /** Share of runs whose volume must never have fewer than two copies. */
  readonly minimumTwo: number;
}

const BASE: Omit<Scenario, 'summary' | 'always' | 'sometimes'> = { share: 0.5, faultEveryMs: 600, activeMs: 9_000, copies: [2, 2, 3], minimumTwo: 0.2 };
/** After these an operator has to act, which takes longer than other faults leave time for. */
const STORE_GONE: readonly FaultKind[] = ['store-lost', 'store-set-back'];
const NETWORK: readonly FaultKind[] = ['drop', 'duplicate', 'reorder', 'delay'];
const SESSIONS: readonly FaultKind[] = ['reconnect', 'takeover', 'late-session', 'reader'];

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  quiet: { ...BASE, summary: 'no faults: the checks themselves, and sharing', always: [], sometimes: ['reader', 'reconnect'], activeMs: 4_000 },
  failover: { ...BASE, summary: 'primaries crash and freeze, are replaced and wake up', always: ['crash-primary', 'freeze-primary'], sometimes: ['blind-failover', 'reader', 'freeze-turn', 'crash-server', 'delay', 'reconnect'] },
  churn: { ...BASE, summary: 'every process comes and goes', always: ['crash-server'], sometimes: ['crash-primary', 'crash-host', 'crash-manager', 'crash-copy', 'crash-at-disk-call', 'clean-restart', 'move', 'drain', 'mirrors', ...NETWORK, ...SESSIONS], faultEveryMs: 600 },
  power: { ...BASE, summary: 'machines lose what was not synced', always: ['power-one'], sometimes: ['power-all', 'power-at-disk-call', 'crash-server', 'clean-restart', 'drop', 'reconnect'] },
  'disk-faults': { ...BASE, summary: 'disks fail, fill, rot and lie', always: [], sometimes: ['write-fails', 'disk-full', 'sync-fails', 'bit-rot', 'lost-write', 'misdirected-write', 'slow-disk', 'wiped-disk', 'crash-server', 'scrub'], minimumTwo: 0 },
  partition: { ...BASE, summary: 'links are cut, also in one direction only', always: ['cut-one-way', 'cut-both-ways'], sometimes: ['isolate', 'split', 'blind-failover', 'reader', 'freeze-primary', 'crash-primary', 'delay', 'reconnect', 'takeover'] },
  'catch-up': { ...BASE, summary: 'mirrors are away for a while and come back', always: ['crash-server', 'isolate'], sometimes: ['power-one', 'slow-disk', 'drop', 'crash-primary', 'freeze-server'], faultEveryMs: 1_300, activeMs: 12_000 },
  rebuild: { ...BASE, summary: 'copies are lost for good and made anew, also while the source fails', always: ['wiped-disk'], sometimes: ['crash-primary', 'crash-server', 'power-one', 'drop', 'bit-rot', 'grow'], faultEveryMs: 1_300, activeMs: 12_000, copies: [2, 3], minimumTwo: 0 },
  sessions: { ...BASE, summary: 'hosts restart, reconnect, take over, and send late', always: ['reconnect', 'takeover'], sometimes: ['crash-host', 'freeze-host', 'late-session', 'reader', 'crash-primary', 'crash-server', 'cut-both-ways', ...NETWORK], faultEveryMs: 600 },
  'manager-chaos': { ...BASE, summary: 'the manager and its store fail in the middle of everything', always: ['crash-manager', 'store-reply-lost'], sometimes: ['store-down', 'freeze-manager', 'crash-primary', 'crash-server', 'failover-command', 'takeover', 'isolate', 'power-one'] },
  clocks: { ...BASE, summary: 'clocks run fast and slow while leases decide about reads', always: ['clock-rate', 'reader', 'blind-failover'], sometimes: ['clock-jump', 'split', 'crash-server', 'crash-copy', 'freeze-primary', 'freeze-turn', 'cut-one-way', 'crash-primary', 'delay'] },
  decisions: { ...BASE, summary: 'whoever a decision is about comes and goes while it is made', always: ['at-decision', 'crash-server'], sometimes: ['reader', 'power-one', 'store-down', 'store-reply-lost', 'crash-manager', 'wiped-disk', 'split', 'slow-disk', 'delay', 'takeover'], minimumTwo: 0.3 },
  care: { ...BASE, summary: 'copies are moved, drained away, added and taken away while processes and machines fail', always: ['move'], sometimes: ['move-ends', 'drain', 'mirrors', 'crash-server', 'crash-primary', 'crash-manager', 'store-reply-lost', 'at-decision', 'freeze-primary', 'power-one', 'isolate', 'clean-restart', 'slow-disk', 'grow', 'failover-command'], faultEveryMs: 700, activeMs: 12_000 },
  'hand-over': { ...BASE, summary: 'servers and primaries give up their role in order, and what they say of it comes late or never', always: ['clean-restart', 'reader'], sometimes: ['failover-command', 'blind-failover', 'clock-rate', 'freeze-primary', 'freeze-turn', 'crash-primary', 'crash-manager', 'crash-copy', 'split', 'cut-one-way', 'isolate', 'slow-disk', 'delay', 'reorder', 'reconnect', 'takeover'], copies: [2, 3], minimumTwo: 0.3 },
  poison: { ...BASE, summary: 'a request that kills whoever carries it out', always: ['poison'], sometimes: ['crash-copy', 'crash-server', 'reconnect'], faultEveryMs: 2_500, minimumTwo: 0 },
  recovery: { ...BASE, summary: 'the metadata store is lost or set back in the middle of everything, and recovered from what servers keep', always: ['store-set-back'], sometimes: ['store-lost', 'crash-manager', 'store-reply-lost', 'crash-primary', 'crash-server', 'failover-command', 'grow', 'takeover', 'isolate', 'power-one', 'slow-disk', 'delay'], faultEveryMs: 900, activeMs: 14_000 },
  everything: { ...BASE, summary: 'random subsets of all of it', always: [], sometimes: FAULT_KINDS.filter((kind) => !STORE_GONE.includes(kind)), share: 0.3, faultEveryMs: 700 },
};
