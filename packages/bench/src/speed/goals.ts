import type { Comparison } from './options.ts';
import type { PeerName } from './targets/peers.ts';
import { WORKLOADS, type Workload } from './workloads.ts';

/** Least ratio to a peer, in the order of WORKLOADS; null: not asked for. */
type Ratios = readonly (number | null)[];

/** What is asked of each comparison. Its peers are those it has goals for. */
const GOALS: Readonly<Record<Comparison, Readonly<Partial<Record<PeerName, Ratios>>>>> = {
  'one-process': { file: [0.9, 1.5, 0.9, 1.1, 1.1, 0.9, 0.45, 1.3, 0.7] },
  'host-in-primary': { file: [0.9, 1.4, 0.4, 0.7, 0.9, 0.7, 0.3, 1.0, 0.45] },
  'three-processes': { file: [0.45, 0.7, 0.3, 0.5, 0.5, 0.35, 0.25, 0.7, 0.35], quorum: [1, 2, 1, 2, 2, 0.7, 0.7, null, null] },
  'strict': { 'file-fua': [null, null, 0.6, 2, null, null, null, null, null] },
  // The same load in both, shared by all volumes: what it costs that there are many.
  'volumes-100': { 'one-volume': [null, 0.7, null, 0.7, 0.7, null, null, null, null] },
  'volumes-1000': { 'one-volume': [null, 0.7, null, 0.7, 0.7, null, null, null, null] },
  'memory': { memory: [null, 1, null, 1, null, 1, 1, null, null] },
};

export function peersOf(comparison: Comparison): readonly PeerName[] {
  return Object.keys(GOALS[comparison]) as PeerName[];
}

export function goal(comparison: string, peer: string, workload: Workload): number | null {
  const goals: Readonly<Record<string, Readonly<Record<string, Ratios>>>> = GOALS;
  return goals[comparison]?.[peer]?.[WORKLOADS.indexOf(workload)] ?? null;
}

export function workloadsOf(comparison: Comparison): readonly Workload[] {
  return WORKLOADS.filter((workload) => peersOf(comparison).some((peer) => goal(comparison, peer, workload) !== null));
}
