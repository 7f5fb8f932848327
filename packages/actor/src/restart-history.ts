/**
 * Restart accounting, as OTP's supervisor:add_restart/3: adds a restart at `nowMs`, forgets those older than the period,
 * and says whether they are too many. `restartsMs` is not changed.
 */
export function addRestart(restartsMs: readonly number[], nowMs: number, intensity: number, periodMs: number): { readonly restartsMs: readonly number[]; readonly tooMany: boolean } {
  const kept = restartsMs.filter((atMs) => nowMs - atMs <= periodMs);
  kept.push(nowMs);
  return { restartsMs: kept, tooMany: kept.length > intensity };
}
