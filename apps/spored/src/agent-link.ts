import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { type AgentClient, type AgentConnection, connectAgent, firstContact } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Machine } from "@sporelet/vmm";
import { reconnectHello } from "./identity.ts";
import { noRoom } from "./room.ts";
import { unlessAborted } from "./together.ts";

/** Limits for one attempt to take up an interrupted connection again, milliseconds. */
const reconnectTimeoutsMs = [5_000, 20_000];
/** The agent may be waiting for programs to stand still, which it does for 10 s at most. */
const thawTimeoutMs = 15_000;
/** From one failure to take the connection up again after a freeze to the next attempt. */
const comeBackMs = 1_000;

/** The agent, for one call. Dispose of it when the call has ended. */
export interface AgentLease extends Disposable {
  client: AgentClient;
  /** The machine was frozen meanwhile, which ended the call. */
  readonly frozen: boolean;
}

/**
 * The one connection to the agent of a machine. It is taken up again (Hello RECONNECT) when it broke, and
 * can be parked for a freeze; calls that come meanwhile wait.
 */
export interface AgentLink {
  /** @throws SporeletError `unavailable` when the agent does not answer */
  lease(signal?: AbortSignal): Promise<AgentLease>;
  /**
   * Sees to it that the guest's clock is right after a pause: by a new Hello now, or when the calls that go
   * on over this connection have ended, since a new Hello would end them.
   */
  refresh(): void;
  /**
   * Quiesces by `prepare`, parks the agent, and runs `frozen`; then takes the connection up again, also
   * when something failed. Calls that still run when the agent is parked are ended.
   *
   * @throws SporeletError `resource_exhausted` when the guest finds no room for what it writes before it is parked,
   *   besides what `prepare` and `frozen` throw
   */
  whileParked<T>(
    prepare: (client: AgentClient, signal: AbortSignal) => Promise<void>,
    frozen: () => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>;
  /** For good: the machine ends. */
  close(): void;
}

export interface AgentLinkOptions {
  machine: Machine;
  name: string;
  /** Of the guest's present identity. */
  generationId: string;
  /** What every Exec sees; given to the agent again after a freeze. */
  env: Record<string, string>;
  /** A channel on which first contact went well. Without it the first lease makes contact. */
  channel?: Duplex | undefined;
}

interface Current {
  channel: Duplex;
  /** HTTP/2 begins with the first call: a resume does not wait for it. */
  connection?: AgentConnection;
  frozen?: true;
}

export function createAgentLink(options: AgentLinkOptions): AgentLink {
  const { machine, name, env, channel } = options;
  let current: Current | undefined = channel && watched(channel);
  let connecting: Promise<void> | undefined;
  let parked: Promise<void> | undefined;
  let calls = 0;
  /** The guest's clock may be wrong: a new Hello is due. */
  let stale = false;
  let closed = false;

  function watched(opened: Duplex): Current {
    opened.once("close", () => {
      if (current?.channel === opened) current = undefined;
    });
    opened.on("error", () => {}); // "close" follows.
    return { channel: opened };
  }

  async function connect(): Promise<void> {
    let last: unknown;
    for (const timeoutMs of reconnectTimeoutsMs) {
      if (closed) throw gone(name);
      let opened: Duplex | undefined;
      try {
        opened = await machine.openChannel(AbortSignal.timeout(timeoutMs));
        const hello = reconnectHello(options.generationId, env);
        await firstContact(opened, hello, { timeoutMs });
        current = watched(opened);
        stale = false;
        return;
      } catch (error) {
        last = error;
        opened?.destroy();
      }
    }
    throw new SporeletError({
      code: "unavailable",
      operation: "reach the agent of",
      subject: name,
      reason: last instanceof SporeletError ? last.reason : String(last),
      hint: `sporectl logs ${name} shows the guest's console`,
      cause: last,
    });
  }

  /** Closes the connection, if there is one; calls over it end. */
  async function disconnect(): Promise<void> {
    const closing = current;
    current = undefined;
    await closing?.connection?.close();
    closing?.channel.destroy();
  }

  function ensure(): Promise<void> {
    if (closed) return Promise.reject(gone(name));
    if (parked !== undefined) return parked;
    if (current !== undefined && !(stale && calls === 0)) return Promise.resolve();
    connecting ??= (async () => {
      await disconnect();
      await connect();
    })().finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  /**
   * Whether a call of quiesce that failed has stopped the guest's programs is not known when it was given up. Where
   * the agent does not answer, a new Hello lets them go on.
   */
  async function goOn(): Promise<void> {
    try {
      await current?.connection?.client.thaw({}, { timeoutMs: thawTimeoutMs });
    } catch (error) {
      // An agent of an earlier version stops no programs.
      if (!(error instanceof ConnectError && error.code === Code.Unimplemented)) await disconnect();
    }
  }

  /** In the background: the next call meets, and tells, the same error. */
  const ensureSoon = () => void ensure().catch(() => {});

  /** In the background, until the agent answers: the guest's programs may stand still until then. */
  async function comeBack(): Promise<void> {
    while (!closed) {
      try {
        return await ensure();
      } catch {
        await sleep(comeBackMs, undefined, { ref: false });
      }
    }
  }

  return {
    async lease(signal) {
      while (current === undefined || parked !== undefined || (stale && calls === 0)) {
        await unlessAborted(ensure(), signal);
      }
      const leased = current;
      leased.connection ??= connectAgent(leased.channel);
      const { client } = leased.connection;
      calls += 1;
      let ended = false;
      return {
        client,
        get frozen() {
          return leased.frozen === true;
        },
        [Symbol.dispose]() {
          if (ended) return;
          ended = true;
          calls -= 1;
          if (stale && calls === 0) ensureSoon();
        },
      };
    },

    refresh() {
      stale = true;
      if (calls === 0) ensureSoon();
    },

    async whileParked(prepare, frozen, signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const full = new AbortController();
      const unlisten = machine.onFullDisk(() => {
        const reason = "the guest stands still, there is no room for what it writes to its disk";
        full.abort(noRoom({ operation: "freeze", subject: name }, reason));
      });
      const either = signal === undefined ? full.signal : AbortSignal.any([signal, full.signal]);
      try {
        await unlessAborted(ensure(), full.signal);
        parked = promise;
        if (current === undefined) throw gone(name);
        current.connection ??= connectAgent(current.channel);
        await prepare(current.connection.client, either).catch(async (error) => {
          // A guest that stands still answers nothing.
          await (full.signal.aborted ? disconnect() : goOn());
          throw error;
        });
        try {
          current.frozen = true;
          await machine.parkAgent(current.channel, either);
          unlisten();
          return await frozen();
        } finally {
          await disconnect();
        }
      } catch (error) {
        full.signal.throwIfAborted(); // It explains the error.
        throw error;
      } finally {
        unlisten();
        parked = undefined;
        resolve();
        void comeBack();
      }
    },

    close() {
      closed = true;
      void current?.connection?.close();
      current?.channel.destroy();
      current = undefined;
    },
  };
}

/** The error of a call that a freeze of its machine ended; undefined for others. */
export function frozenMeanwhile(
  lease: AgentLease,
  context: { operation: string; subject: string },
  cause: unknown,
): SporeletError | undefined {
  if (!lease.frozen) return undefined;
  return new SporeletError({
    ...context,
    code: "unavailable",
    reason: "the machine was suspended, or a snapshot or a fork was made of it, which ends the calls into it",
    hint: "what is to outlive that has to run in the guest by itself: as a service, or in the background",
    cause,
  });
}

function gone(name: string): SporeletError {
  return new SporeletError({
    code: "unavailable",
    operation: "reach the agent of",
    subject: name,
    reason: "the machine has stopped",
  });
}
