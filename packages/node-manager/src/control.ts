import { ApiClient, type ApiCall, type ApiResult } from '@ashlar/client';

/** @hidden What a node manager asks of the system manager. */
export interface Control {
  call<C extends ApiCall>(command: C): Promise<ApiResult<C>>;
}

/** @hidden A connection for each command: they are few, and one that is kept would have to be made again after every restart of the system manager. */
export function controlAt(door: () => { readonly endpoint: string; readonly token: string; /** Of a cluster: its authority. */ readonly ca?: string }): Control {
  return {
    async call(command) {
      const { endpoint, token, ca } = door();
      const client = await ApiClient.connect(endpoint, token, ca);
      try {
        return await client.call(command);
      } finally {
        client.close();
      }
    },
  };
}
