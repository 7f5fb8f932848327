// Creates a volume at a running site, and shows what happened to it. ASHLAR_ENDPOINT=… ASHLAR_TOKEN=… node control.ts
import { ApiClient, type AshlarError } from '@ashlar/client';

const { ASHLAR_ENDPOINT: endpoint = '', ASHLAR_TOKEN: token = '' } = process.env;
const client = await ApiClient.connect(endpoint, token);
const servers = await client.call({ kind: 'server-list' });
console.log(servers.map((server) => `${server.serverId} is ${server.state}`).join(', '));

const { volumeId, health } = await client.call({ kind: 'volume-create', sizeBytes: 64 * 2 ** 20, tags: { purpose: 'example' } });
console.log(`${volumeId} is ${health}`);
await client.events({ follow: false, subject: volumeId }, (event) => console.log(`${event.name} ${event.reason}`));

// One thing that goes wrong, and what it says.
await client.call({ kind: 'volume-grow', volumeId, sizeBytes: 4096 }).catch((error: AshlarError) => console.log(`${error.code}: ${error.explain()}`));
await client.call({ kind: 'volume-delete', volumeId });
client.close();
