/** The lowest and the highest wire version that one side of a link speaks. */
export type WireRange = readonly [lowest: number, highest: number];

/**
 * Of this build. Each version's build speaks the one before it as well, so that a site's processes can be replaced one at a time. docs/formats/wire.md
 * says what each added; a number is raised when peers of the version before could not take what is sent.
 */
export const WIRE_VERSIONS: WireRange = [1, 2];

/** The highest version that both speak; null if there is none. */
export function commonVersion(ours: WireRange, theirs: WireRange): number | null {
  const highest = Math.min(ours[1], theirs[1]);
  return highest >= Math.max(ours[0], theirs[0]) ? highest : null;
}
