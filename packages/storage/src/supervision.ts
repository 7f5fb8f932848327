import type { SupervisorPlan } from '@ashlar/actor';

/** How a copy is supervised. More restarts in this time are too many: it stays down, and is made anew elsewhere. */
export const COPY_SUPERVISION = { strategy: 'one_for_one', intensity: 3, periodMs: 30_000, pastIntensity: 'fault' } as const satisfies Omit<SupervisorPlan, 'children'>;
