/** Messages waiting for one actor. Twice what one attachment may have unanswered (UNANSWERED_MAX), so that replies and requests fit. */
export const MAILBOX_MAX = 2048;
/** Copies that a request may kill before it is refused for good (issue text: "a request that has killed two copies"). */
export const POISON_KILLS_MAX = 2;
/** Requests in hand at a crash that are remembered. A crash is rare; beyond this the oldest is forgotten. */
export const POISON_SUSPECTS_MAX = 1024;
