import type { LoadFigures } from '../fio.ts';
import type { Workload } from '../workloads.ts';

/** Something that serves a block device over NBD and can be measured. */
export interface Target {
  readonly name: string;
  readonly title: string;
  start(): Promise<Running>;
}

/** A load that is not fio's, for what is more than one device. */
export interface OwnLoad {
  overwrite(times: number): Promise<void>;
  run(workload: Workload, seconds: number): Promise<LoadFigures>;
}

export interface Running {
  readonly uri: string;
  /** Missing: fio loads the device. */
  readonly load?: OwnLoad;
  /** Every process that works for this device; asked for again before each measurement. */
  pids(): readonly number[];
  /** Where state stands that is worth a line beside the figures, for instance bytes destaged; null if there is nothing to say. */
  note(): Promise<string | null>;
  /** Throws if what was written is not what is there, as far as this target can tell. Called once, before stop. */
  verify(): Promise<string | null>;
  stop(): Promise<void>;
  /** What is known only after it has ended; null if there is nothing to say. */
  farewell(): string | null;
}

export interface TargetOptions {
  /** An empty directory of this target's own. */
  readonly directory: string;
  readonly sizeBytes: number;
}
