import { ApiClient, type ApiCall, type ApiResult } from '@ashlar/client';
import { AshlarError } from '@ashlar/words';
import { ANSWER_MS } from './limits.ts';

/** @hidden What a node manager asks of the system manager. */
export interface Control {
  call<C extends ApiCall>(command: C): Promise<ApiResult<C>>;
}

/** @hidden A connection for each command: they are few, and one that is kept would have to be made again after every restart of the system manager. */
export function controlAt(door: () => { readonly endpoint: string; readonly token: string; /** Of a cluster: its authority. */ readonly ca?: string }, answerMs = ANSWER_MS): Control {
  return {
    async call(command) {
      const { endpoint, token, ca } = door();
      const client = await ApiClient.connect(endpoint, token, ca);
      try {
        // A machine that loses its power, or is frozen, closes no connection.
        const late = AbortSignal.timeout(answerMs);
        return await client.call(command, { signal: late }).catch((error: unknown) => {
          throw late.aborted && error === late.reason ? new AshlarError('unavailable', `the system manager did not answer ${command.kind} within ${answerMs / 1000} s`, { retry: 'later', cause: error }) : error;
        });
      } finally {
        client.close();
      }
    },
  };
}
