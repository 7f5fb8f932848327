import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** The subnet of a network; it exists in namespaces of its own, so that any number may be up at a time. */
const SUBNET = '10.77.0';
const HUB_HOST = 254;

/** A network namespace for each machine, and a hub with a bridge between them, where whoever drives them is. Needs root, `ip` and `nft`. */
export class Network {
  readonly #prefix: string;
  readonly #machines: readonly string[];

  private constructor(prefix: string, machines: readonly string[]) {
    this.#prefix = prefix;
    this.#machines = machines;
  }

  static async make(prefix: string, machines: readonly string[]): Promise<Network> {
    const network = new Network(prefix, machines);
    try {
      await network.#make();
      return network;
    } catch (error) {
      await network.remove();
      throw error;
    }
  }

  /** One that was made before, by another process. */
  static of(prefix: string, machines: readonly string[]): Network { return new Network(prefix, machines); }

  address(machine: string): string { return `${SUBNET}.${this.#machines.indexOf(machine) + 1}`; }
  namespace(machine: string): string { return `${this.#prefix}-${machine}`; }
  get hub(): string { return `${this.#prefix}-hub`; }

  /** What this machine sends does not reach that one. */
  async cut(from: string, to: string): Promise<void> {
    await this.#nft(to, `add rule inet cut in ip saddr ${this.address(from)} drop`);
  }

  /** Every link of every machine. */
  async heal(): Promise<void> {
    for (const machine of this.#machines) await this.#nft(machine, 'flush chain inet cut in');
  }

  async remove(): Promise<void> {
    const { stdout } = await execute('ip', ['netns', 'list']);
    const ours = stdout.split('\n').map((line) => line.split(' ')[0] ?? '').filter((name) => name.startsWith(`${this.#prefix}-`));
    for (const name of ours) await execute('ip', ['netns', 'del', name]);
  }

  async #make(): Promise<void> {
    const { hub } = this;
    await execute('ip', ['netns', 'add', hub]);
    await this.#ip(hub, 'link set lo up');
    await this.#ip(hub, 'link add bridge type bridge');
    await this.#ip(hub, 'link set bridge up');
    await this.#ip(hub, `addr add ${SUBNET}.${HUB_HOST}/24 dev bridge`);
    for (const machine of this.#machines) {
      const namespace = this.namespace(machine);
      await execute('ip', ['netns', 'add', namespace]);
      await this.#ip(hub, `link add to-${machine} type veth peer name eth0 netns ${namespace}`);
      await this.#ip(hub, `link set to-${machine} master bridge up`);
      await this.#ip(namespace, 'link set lo up');
      await this.#ip(namespace, `addr add ${this.address(machine)}/24 dev eth0`);
      await this.#ip(namespace, 'link set eth0 up');
      await this.#nft(machine, 'add table inet cut');
      await this.#nft(machine, 'add chain inet cut in { type filter hook input priority 0; }');
    }
  }

  async #ip(namespace: string, command: string): Promise<void> {
    await execute('ip', ['-n', namespace, ...command.split(' ')]);
  }

  async #nft(machine: string, command: string): Promise<void> {
    await execute('ip', ['netns', 'exec', this.namespace(machine), 'nft', command]);
  }
}
