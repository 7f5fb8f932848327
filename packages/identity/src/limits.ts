/** Of the authority's own certificate: it is not renewed, so it outlives the disks. */
export const AUTHORITY_YEARS = 20;
/** Clocks of machines may differ by so much: certificates begin so long before they are issued. */
export const CLOCK_SKEW_MS = 5 * 60_000;
/** A certificate request for a P-256 key has about 400 bytes. */
export const REQUEST_BYTES_MAX = 8 * 1024;
/** Machines of a cluster, and parties of a machine. */
export const MEMBERS_MAX = 1024;
/** A roster of so many machines has about 300 bytes for each. */
export const ANSWER_BYTES_MAX = 4 * 2 ** 20;
/** For the manager to answer a joining or a renewal. */
export const ANSWER_MS = 10_000;
