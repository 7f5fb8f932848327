import { spawn } from 'node:child_process';
import { Network } from './network.ts';

/** Names the network whose hub this process is in. */
const INSIDE = 'ASHLAR_CUT_NETWORK';

/**
 * Makes a network of these machines and runs the program again inside its hub, from where all of them can be reached; there `run` is called. Gives
 * the exit code: 0 if `run` found everything right.
 */
export async function runInNetwork(program: string, machines: readonly string[], run: (network: Network) => Promise<boolean>): Promise<number> {
  const inside = process.env[INSIDE];
  if (inside !== undefined) return (await run(Network.of(inside, machines))) ? 0 : 1;
  const name = `ashlar-cut-${process.pid}`;
  const network = await Network.make(name, machines);
  try {
    const child = spawn('ip', ['netns', 'exec', network.hub, process.execPath, program, ...process.argv.slice(2)], { stdio: 'inherit', env: { ...process.env, [INSIDE]: name } });
    // A terminal sends its interrupt to both; the one inside ends what it has started.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill('SIGTERM'));
    return await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
  } finally {
    await network.remove();
  }
}
