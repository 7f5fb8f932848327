import { Histogram, LATENCY_BOUNDS } from '@ashlar/figures';
import { Op, Status } from '@ashlar/protocol';

const OPERATIONS = ['read', 'write', 'zero', 'trim', 'flush', 'other'] as const;
type Operation = (typeof OPERATIONS)[number];

/** What all attachments of a host did since its process started, those that have ended included. */
export class RequestTotals {
  readonly #durations: readonly Histogram[] = OPERATIONS.map(() => new Histogram(LATENCY_BOUNDS));
  readonly #refusals = new Map<string, number>();
  readBytes = 0;
  writtenBytes = 0;
  failedRequests = 0;
  timedOutRequests = 0;
  resentFrames = 0;

  /** Of one operation; `bucket`: of its seconds, which the operations of a reply have in common. */
  count(op: Op, status: Status, lengthBytes: number, seconds: number, bucket: number): void {
    if (status !== Status.ok) {
      this.failedRequests++;
      return;
    }
    (this.#durations[operationOf(op)] as Histogram).record(seconds, bucket);
    if (op === Op.read) this.readBytes += lengthBytes;
    else if (op === Op.write) this.writtenBytes += lengthBytes;
  }

  bucket(seconds: number): number { return (this.#durations[0] as Histogram).bucket(seconds); }

  refused(reason: string): void { this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1); }

  get refusals(): ReadonlyMap<string, number> { return this.#refusals; }

  durations(): readonly (readonly [Operation, Histogram])[] { return OPERATIONS.map((operation, i) => [operation, this.#durations[i] as Histogram]); }
}

/** Index in OPERATIONS. */
function operationOf(op: Op): number {
  switch (op) {
    case Op.read: return 0;
    case Op.write: return 1;
    case Op.zero: return 2;
    case Op.trim: return 3;
    case Op.flush: return 4;
    default: return 5;
  }
}
