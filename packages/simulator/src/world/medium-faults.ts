/** What a disk does wrong from now on. */
export interface MediumFaults {
  /** The next sync fails, and all after it: a failed fsync is final. */
  failSync: boolean;
  /** The next append meets an I/O error. */
  failWrite: boolean;
  /** Nothing can be appended. */
  full: boolean;
  /** So many of the next writes of settled blocks are claimed and not made, or land a page further. */
  lostWrites: number;
  misdirectedWrites: number;
  /** In so many calls from now the process ends, or its machine loses power; 0: not. */
  endsIn: number;
  endsWithPower: boolean;
}

/** A process ends in the middle of a turn: what it did so far happened, what it would have done does not. */
export class ProcessEnds extends Error {
  override readonly name = 'ProcessEnds';
  readonly withPower: boolean;

  constructor(withPower: boolean) {
    super('the process ends here');
    this.withPower = withPower;
  }
}

/** Counts one call to the disk, which may be the last. */
export function diskCall(faults: MediumFaults): void {
  if (faults.endsIn === 0 || --faults.endsIn > 0) return;
  throw new ProcessEnds(faults.endsWithPower);
}
