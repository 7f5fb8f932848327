import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/**
 * Tells systemd that the service is ready, if it started this (`Type=notify`). Node cannot send to a datagram socket of the kind that systemd listens on, so
 * its own program does; hence `NotifyAccess=all` in the unit.
 */
export async function tellReady(status: string, env: Readonly<Record<string, string | undefined>> = process.env): Promise<void> {
  if (env['NOTIFY_SOCKET'] === undefined) return;
  await promisify(execFile)('systemd-notify', ['--ready', `--status=${status}`]);
}
