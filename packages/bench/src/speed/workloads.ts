/** One way of loading a block device: what fio is told, and what counts as one request of it. */
export interface Workload {
  readonly name: string;
  readonly title: string;
  readonly writes: boolean;
  /** Of 4 KiB at random places, with 32 in flight: what many volumes can share. Null for other workloads. */
  readonly sharedReadPercent: number | null;
  readonly fio: readonly string[];
}

const random = ['--norandommap', '--random_generator=tausworthe64', '--randrepeat=0'];

function workload(name: string, title: string, writes: boolean, fio: readonly string[], sharedReadPercent: number | null = null): Workload {
  return { name, title, writes, fio, sharedReadPercent };
}

/** In the order in which they are run and reported. */
export const WORKLOADS: readonly Workload[] = [
  workload('read-4k-q1', '4k read q1', false, ['--rw=randread', '--bs=4k', '--iodepth=1', ...random]),
  workload('read-4k-q32', '4k read q32', false, ['--rw=randread', '--bs=4k', '--iodepth=32', ...random], 100),
  workload('write-4k-q1', '4k write q1', true, ['--rw=randwrite', '--bs=4k', '--iodepth=1', ...random]),
  workload('write-4k-q32', '4k write q32', true, ['--rw=randwrite', '--bs=4k', '--iodepth=32', ...random], 0),
  workload('mixed-4k-q32', '70/30 q32', true, ['--rw=randrw', '--rwmixread=70', '--bs=4k', '--iodepth=32', ...random], 70),
  workload('read-128k-q8', '128k read q8', false, ['--rw=read', '--bs=128k', '--iodepth=8']),
  workload('write-128k-q8', '128k write q8', true, ['--rw=write', '--bs=128k', '--iodepth=8']),
  workload('flush32-4k-q32', 'write q32, flush each 32', true, ['--rw=randwrite', '--bs=4k', '--iodepth=32', '--fsync=32', ...random]),
  workload('flush-4k-q1', 'write+flush q1', true, ['--rw=randwrite', '--bs=4k', '--iodepth=1', '--fsync=1', ...random]),
];

export function selectWorkloads(only: readonly string[]): readonly Workload[] {
  const unknown = only.filter((name) => !WORKLOADS.some((one) => one.name === name));
  if (unknown.length > 0) throw new Error(`no such workload: ${unknown.join(', ')} (there are ${WORKLOADS.map((one) => one.name).join(', ')})`);
  return only.length === 0 ? WORKLOADS : WORKLOADS.filter((one) => only.includes(one.name));
}
