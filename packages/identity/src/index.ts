export { Authority, newRequest, requestKeyId } from './authority.ts';
export { join, renew, type JoinAnswer, type JoinRequest } from './cluster-client.ts';
export { ClusterTrust, type Credentials } from './cluster-trust.ts';
export { readIfThere, replaceFile } from './files.ts';
export { hashSecret, matchesSecret, newJoinSecret, parseJoinSecret, showJoinSecret } from './join-secret.ts';
export { MEMBERS_MAX } from './limits.ts';
export { MachineIdentity } from './machine-identity.ts';
export { certifiedName, isMachineName } from './names.ts';
export { parseParties, parseRoles, parseRoster, type Member, type MemberParty, type Role, type Roster } from './roster.ts';
