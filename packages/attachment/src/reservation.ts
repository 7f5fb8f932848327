import type { Reservation } from './effects.ts';
import { SESSIONS_RESERVED } from './limits.ts';

/** What to make stable before a life of an attachment begins, and then to give to its core. `previous`: the newest stable one of the same attach number, or null. */
export function nextReservation(previous: Reservation | null): Reservation {
  return { restartCount: (previous?.restartCount ?? 0) + 1, sessionCount: (previous?.sessionCount ?? 0) + SESSIONS_RESERVED };
}
