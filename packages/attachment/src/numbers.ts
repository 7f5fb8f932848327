import { assert } from '@ashlar/words';
import type { Reservation } from './effects.ts';
import { REQUESTS_PER_RESTART, SESSIONS_RESERVED } from './limits.ts';

/** Hands out request numbers and session counts, and reserves more before they run out. */
export class Numbers {
  #reservation: Reservation;
  /** Operations numbered in this restartCount. */
  #numbered: number;
  #sessionCount: number;

  constructor(reservation: Reservation, numbered: number) {
    assert(reservation.restartCount >= 1 && reservation.sessionCount >= SESSIONS_RESERVED, 'a reservation was made for this life');
    this.#reservation = reservation;
    this.#numbered = numbered;
    this.#sessionCount = reservation.sessionCount - SESSIONS_RESERVED;
  }

  /** Of the present session. */
  get sessionCount(): number { return this.#sessionCount; }
  /** The highest request number given out, or any life before could have. */
  get highest(): number { return this.#reservation.restartCount * REQUESTS_PER_RESTART + this.#numbered; }

  /** The first of so many request numbers. `reserve` makes stable. */
  requests(count: number, reserve: (reservation: Reservation) => void): number {
    if (this.#numbered + count >= REQUESTS_PER_RESTART) {
      this.#reserve({ ...this.#reservation, restartCount: this.#reservation.restartCount + 1 }, reserve);
      this.#numbered = 0;
    }
    const first = this.highest + 1;
    this.#numbered += count;
    return first;
  }

  nextSession(reserve: (reservation: Reservation) => void): number {
    if (this.#sessionCount === this.#reservation.sessionCount) {
      this.#reserve({ ...this.#reservation, sessionCount: this.#reservation.sessionCount + SESSIONS_RESERVED }, reserve);
    }
    return ++this.#sessionCount;
  }

  #reserve(reservation: Reservation, reserve: (reservation: Reservation) => void): void {
    reserve(reservation);
    this.#reservation = reservation;
  }
}
