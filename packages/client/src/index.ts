export { ApiClient, type CallOptions, type EventQuery } from './api-client.ts';
export type {
  ApiCall, ApiCommand, ApiResult, ApiResults, AttachmentState, AttachmentView, Build, ClusterStatus, CopyView, EventDetail, EventRecord, HostView, InviteView, MachineView, ManagerView, Move, PlacementVerdict, PlacementView, ProcessView, RebuildBudget, RecoveredVolume, RecoveryView,
  Report, ServerState, ServerView, VolumeHealth, VolumeLimits, VolumeState, VolumeView,
} from '@ashlar/protocol';
export { AshlarError, type ErrorCode, type HostId, type Retry, type ServerId, type VolumeId } from '@ashlar/words';
