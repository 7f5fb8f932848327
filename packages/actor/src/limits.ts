/** Messages waiting for one actor. Twice what one attachment may have unanswered (UNANSWERED_MAX), so that replies and requests fit. */
export const MAILBOX_MAX = 2048;
