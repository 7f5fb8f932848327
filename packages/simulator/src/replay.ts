import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Shows the log of a failed run: all of it when its output is not a terminal, else screen by screen. */
export function replay(path: string | undefined, untilMs: number, grep: string): number {
  if (path === undefined) {
    process.stderr.write('pnpm sim replay needs the log that a failed run wrote\n');
    return 2;
  }
  const [head, ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n');
  const shown = lines.filter((line) => (grep === '' || line.includes(grep)) && !(parseFloat(line) > untilMs));
  process.stdout.write(`${head}\n`);
  if (!process.stdout.isTTY || !process.stdin.isTTY) {
    process.stdout.write(`${shown.join('\n')}\n`);
    return 0;
  }
  stepThrough(shown);
  return 0;
}

/** Enter: the next event. A number: so many. Text: on to the next line with it. q: ends. */
function stepThrough(lines: readonly string[]): void {
  const input = createInterface({ input: process.stdin, output: process.stdout, prompt: '(enter: next, number, text, q) ' });
  let at = 0;
  const showNext = (count: number): void => {
    process.stdout.write(`${lines.slice(at, at + count).join('\n')}\n`);
    at += count;
  };
  showNext(20);
  input.prompt();
  input.on('line', (answer) => {
    const count = answer === '' ? 1 : Number(answer);
    if (answer === 'q' || at >= lines.length) return input.close();
    if (Number.isFinite(count)) showNext(count);
    else {
      const found = lines.findIndex((line, index) => index >= at && line.includes(answer));
      showNext(found < 0 ? lines.length - at : found - at + 1);
    }
    input.prompt();
  });
}
