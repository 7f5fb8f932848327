/** `note`: as it was asked for, and worth knowing. `warning`: to be mended before it is felt. `error`: data, or its service, is at risk now. */
export type Severity = 'note' | 'warning' | 'error';

export interface Finding {
  readonly severity: Severity;
  /** Which check found it, by a word that stays. */
  readonly check: string;
  /** The machine's part, server, volume or file that it is about. */
  readonly subject: string;
  /** What was found. */
  readonly message: string;
  /** What it means for the data. */
  readonly effect: string;
  /** What to do. */
  readonly action: string;
}

const ORDER: readonly Severity[] = ['error', 'warning', 'note'];

export function worstFirst(findings: readonly Finding[]): readonly Finding[] {
  return [...findings].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

/** Something is to be mended. */
export function isSick(findings: readonly Finding[]): boolean {
  return findings.some(({ severity }) => severity !== 'note');
}
