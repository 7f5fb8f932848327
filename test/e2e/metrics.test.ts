import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '@ashlar/nbd-client';
import { FIGURE_NAMES } from '@ashlar/figures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PatternWriter } from './support/pattern.ts';
import { figuresOf, type Figures } from './support/prometheus.ts';
import { cli, Site } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-metrics-'));
const SITE = join(directory, 'site');
/** Only said when they are not zero, or under some condition that this test does not make. */
const NOT_ALWAYS = new Set(['ashlar_host_refused_sessions_total', 'ashlar_api_refused_requests_total']);

let site: Site;
beforeAll(async () => { site = await Site.up(SITE, '--processes', '--servers', '3', '--rebuild-delay', '1s', '--metrics-port', '0'); });
afterAll(async () => {
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

async function scrape(): Promise<Figures> {
  const answer = await fetch(site.metrics, { headers: { authorization: `Bearer ${site.token}` } });
  expect(answer.status).toBe(200);
  return figuresOf(await answer.text());
}

describe('figures for Prometheus', () => {
  it('are for those who may use the API, at its port as well', async () => {
    expect((await fetch(site.metrics)).status).toBe(401);
    const api = new URL('/metrics', site.endpoint.replace('ws:', 'http:'));
    expect((await fetch(api)).status).toBe(401);
    expect((await fetch(api, { headers: { authorization: `Bearer ${site.token}` } })).status).toBe(200);
    const { port } = new URL(site.metrics);
    const taken = await cli(['up', '--dir', join(directory, 'another'), '--metrics-port', port]);
    expect([taken.code, taken.json]).toMatchObject([1, { error: { code: 'io-error' } }]);
  });

  it('tell what a volume and its servers do, through writes, a scrub, and the loss of a primary', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1');
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId);
    const client = await NbdClient.connect(nbd);
    const writer = new PatternWriter(client, 256);
    writer.start(4);
    await expect.poll(() => writer.written > 1000, { timeout: 30_000, interval: 20 }).toBe(true);
    await writer.stop();
    await client.read(0, 4096);
    await client.flush();

    const first = await scrape();
    const missing = FIGURE_NAMES.filter((name) => !NOT_ALWAYS.has(name) && !first.names.has(name));
    expect(missing).toEqual([]);
    expect([...first.names].filter((name) => !(FIGURE_NAMES as readonly string[]).includes(name))).toEqual([]);
    const host = { host: 'host-1' };
    expect(first.value('ashlar_host_transferred_bytes_total', { ...host, operation: 'write' })).toBe(writer.written * 4096);
    expect(first.value('ashlar_host_request_duration_seconds_count', { ...host, operation: 'write' })).toBe(writer.written);
    expect(first.value('ashlar_host_request_duration_seconds_bucket', { ...host, operation: 'write', le: '+Inf' })).toBe(writer.written);
    expect(first.value('ashlar_host_request_duration_seconds_count', { ...host, operation: 'read' })).toBe(1);
    expect(first.value('ashlar_host_request_duration_seconds_count', { ...host, operation: 'flush' })).toBe(1);
    expect(first.value('ashlar_host_attachments', host)).toBe(1);
    expect(first.value('ashlar_manager_acting', {})).toBe(1);
    expect(first.value('ashlar_volume_copies_in_sync', { volume: volumeId })).toBe(2);
    expect(first.value('ashlar_volume_copies_wanted', { volume: volumeId })).toBe(2);
    expect(first.value('ashlar_volumes_by_health', { health: 'healthy' })).toBe(1);
    expect(first.sum('ashlar_journal_appended_bytes_total')).toBeGreaterThanOrEqual(2 * writer.written * 4096);
    expect(first.value('ashlar_failovers_total', {})).toBe(0);
    for (const party of ['server-1', 'server-2', 'server-3', 'host-1']) expect(first.value('ashlar_party_answered', { party })).toBe(1);

    await site.ask('volume', 'scrub', volumeId);
    await expect.poll(async () => (await scrape()).sum('ashlar_scrubs_total'), { timeout: 30_000 }).toBe(2);
    expect((await scrape()).sum('ashlar_checksum_errors_total')).toBe(0);

    const { serverId, pid } = await site.primary(volumeId);
    await site.ask('server', 'stop', serverId, '--kill');
    await site.until(volumeId, (volume) => volume.health === 'healthy' && !volume.copies.some((copy) => copy.serverId === serverId), 30_000);
    // The host opens its session when it has work; then it was refused by nobody, and sent to the new primary.
    await client.write(0, Buffer.alloc(4096));
    const after = await scrape();
    expect(after.value('ashlar_failovers_total', {})).toBeGreaterThanOrEqual(1);
    expect(after.value('ashlar_server_up', { server: serverId })).toBe(0);
    expect(after.value('ashlar_party_answered', { party: serverId })).toBe(0);
    expect(after.value('ashlar_process_resident_memory_bytes', { process: String(pid) })).toBeUndefined();
    // On a busy machine another may have been made primary in the middle: then it was gone on with, and not built from nothing by one of them.
    const compared = (figures: Figures): number => ['server-1', 'server-2', 'server-3'].reduce((sum, server) => sum + (figures.value('ashlar_catch_ups_total', { server, way: 'comparison' }) ?? 0), 0);
    expect(compared(after)).toBeGreaterThanOrEqual(1);
    const moved = after.sum('ashlar_rebuild_received_bytes_total');
    expect(moved).toBeGreaterThanOrEqual(256 * 4096);
    expect(after.sum('ashlar_rebuild_sent_bytes_total')).toBeGreaterThanOrEqual(256 * 4096);
    expect(after.value('ashlar_events_total', { event: 'promoted' })).toBeGreaterThanOrEqual(1);

    await site.refused('volume', 'describe', 'vol-0123456789abcdef0');
    expect((await scrape()).value('ashlar_api_refused_requests_total', { code: 'not-found' })).toBe(1);
    await client.close();
    await site.ask('server', 'start', serverId);
    // `busy` while what comes back with the server is looked at.
    await site.answered(['volume', 'detach', volumeId], () => true);
    await site.ask('volume', 'delete', volumeId);
    const last = await scrape();
    // What has been counted stays, what is gone goes.
    expect(last.value('ashlar_volume_copies_in_sync', { volume: volumeId })).toBeUndefined();
    expect(last.value('ashlar_host_transferred_bytes_total', { ...host, operation: 'write' })).toBe((writer.written + 1) * 4096);
    expect(last.sum('ashlar_rebuild_received_bytes_total')).toBeGreaterThanOrEqual(moved);
  });

  it('are all in docs/metrics.md', () => {
    const text = readFileSync(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');
    const listed = [...text.matchAll(/^\| `(ashlar_\w+)` \|/gm)].map((match) => match[1] as string);
    expect(listed.sort()).toEqual([...FIGURE_NAMES].sort());
  });
});
