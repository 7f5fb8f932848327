import type { ApiCommand } from '@ashlar/protocol';
import type { VolumeRecord } from './records.ts';

/** Who asks. The operator holds the site's token; users come with accounts. */
export type Principal = { readonly kind: 'operator' } | { readonly kind: 'user'; readonly name: string } | { readonly kind: 'nobody' };

export type Right = 'read' | 'write' | 'administer';

/** What each command needs on its volume; `site`: it concerns the whole site, which only the operator may. A command that is not listed does not compile. */
const NEEDED: Readonly<Record<ApiCommand['kind'] | 'events', Right | 'site'>> = {
  'volume-create': 'site',
  'volume-list': 'site',
  'volume-describe': 'read',
  'volume-modify': 'administer',
  'volume-grow': 'administer',
  'volume-attach': 'write',
  'volume-detach': 'write',
  'volume-delete': 'administer',
  'volume-scrub': 'administer',
  'volume-failover': 'administer',
  'volume-move': 'site',
  'server-list': 'site',
  'host-list': 'site',
  'manager-describe': 'site',
  'recover': 'site',
  'report': 'site',
  'server-lost': 'site',
  'server-stop': 'site',
  'server-start': 'site',
  'cluster-invite': 'site',
  'machine-list': 'site',
  'machine-remove': 'site',
  'server-restart': 'site',
  'cluster-status': 'site',
  'server-add': 'site',
  'server-drain': 'site',
  'server-remove': 'site',
  'cluster-modify': 'site',
  'events': 'site',
};

/** The one place that decides. Default deny. A hidden volume and an absent one get the same answer, so the volume may be undefined here. */
export function authorize(principal: Principal, action: ApiCommand['kind'] | 'events', volume: VolumeRecord | undefined): boolean {
  if (principal.kind === 'operator') return true;
  if (principal.kind !== 'user' || volume === undefined) return false;
  const needed = NEEDED[action];
  if (needed === 'site') return false;
  if (volume.owner === principal.name) return true;
  return volume.accessList.some((entry) => entry.principal === principal.name && entry.rights.includes(needed));
}
