export type { NbdBackend, NbdBackendLimits, NbdDevice, NbdReplies, PayloadLease } from './backend.ts';
