import type { Address } from '@ashlar/actor';
import type { BeaconMessage, CopyMessage, HostCommand, HostMessage, ManagerCommand, ManagerMessage, ServerMessage, SessionMessage, SessionReply, SupervisorMessage } from '@ashlar/protocol';
import type { HostId, ServerId } from '@ashlar/words';

/** What reaches a storage server's process, besides its own timers and completions. */
export type ServerMail =
  | { readonly kind: 'peer'; readonly from: ServerId; readonly message: CopyMessage }
  | { readonly kind: 'beacon'; readonly from: ServerId; readonly message: BeaconMessage }
  | { readonly kind: 'session'; readonly from: Address; readonly message: SessionMessage }
  | { readonly kind: 'host-gone'; readonly from: HostId }
  | { readonly kind: 'peer-up'; readonly from: ServerId }
  | { readonly kind: 'manager-link'; readonly up: boolean }
  | { readonly kind: 'command'; readonly command: ManagerCommand };

/** What reaches a host's process. */
export type HostMail =
  | { readonly kind: 'reply'; readonly from: ServerId; readonly to: Address; readonly message: SessionReply }
  | { readonly kind: 'command'; readonly command: HostCommand }
  | { readonly kind: 'link'; readonly node: string; readonly up: boolean; readonly crashed: boolean };

/** What reaches the system manager's process. */
export type ManagerMail =
  | { readonly kind: 'from-server'; readonly from: ServerId; readonly message: ServerMessage }
  | { readonly kind: 'from-copy'; readonly from: ServerId; readonly message: ManagerMessage }
  | { readonly kind: 'from-host'; readonly from: HostId; readonly message: HostMessage }
  | { readonly kind: 'from-supervisor'; readonly message: SupervisorMessage }
  | { readonly kind: 'link'; readonly node: string; readonly up: boolean };
