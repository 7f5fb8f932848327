import type { AttachmentSpec } from '@ashlar/protocol';
import type { ServerId, VolumeId } from '@ashlar/words';

/** What an attachment is called in NBD, and by us: the volume's id; `:ro` for a reader beside a writer; `@server` for one server's own copy. */
export function exportName({ volumeId, readOnly, copy }: { readonly volumeId: VolumeId; readonly readOnly: boolean; readonly copy: ServerId | null }): string {
  if (copy !== null) return `${volumeId}@${copy}`;
  return readOnly ? `${volumeId}:ro` : volumeId;
}

/** https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md */
export function nbdUri(spec: AttachmentSpec, socketPath: string | null, tcpPort: number, tls: boolean): string {
  const name = exportName(spec);
  // Inside a program, which needs no address for it. What is told to the system manager is never empty.
  if (socketPath === null) return `in-process:${name}`;
  return spec.tcp ? `${tls ? 'nbds' : 'nbd'}://127.0.0.1:${tcpPort}/${name}` : `nbd+unix:///${name}?socket=${encodeURI(socketPath)}`;
}
