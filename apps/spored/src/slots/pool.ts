import { setImmediate } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { createSupply, memoryUse } from "@sporelet/host";
import type { StoredSnapshot } from "@sporelet/store";
import type { NodeParts } from "../node.ts";
import { type PreparedClone, prepareClone } from "../preparation.ts";
import { createBackoff } from "./backoff.ts";
import { type HostMemory, isRoomy, tooLittleMemory } from "./memory.ts";
import { rehearse } from "./rehearsal.ts";

/** Prepared clones of one snapshot. */
export interface Pool {
  readonly snapshot: StoredSnapshot;
  /** One that is ready, or nothing. Another one is made when no more are taken for a moment. */
  take(): PreparedClone | undefined;
  readonly wanted: number;
  readonly ready: number;
  /** Why there are fewer than wanted; undefined when there are not, or they are being made. */
  readonly problem: string | undefined;
  /** Changes how many are to be ready; what is missing is made by `fill`. */
  resize(wanted: number): Promise<void>;
  /**
   * Makes what is missing. Resolves when all are ready, or one could not be prepared: now, or a while ago, since what
   * failed again and again is not tried again each time.
   *
   * @param options.asked somebody waits for them: it is tried now. Default: false
   */
  fill(options?: { asked?: boolean }): Promise<void>;
  /** Memory that those that are ready have for themselves alone. */
  privateBytes(): Promise<number>;
  /** Ends those that are ready. */
  close(): Promise<void>;
}

/** They are prepared one after the other, when nobody takes any: a burst of resumes needs the CPU itself. */
export function createPool(node: NodeParts, snapshot: StoredSnapshot, memory: HostMemory): Pool {
  const { digest } = snapshot;
  const closing = new AbortController();
  const signal = AbortSignal.any([closing.signal, node.shutdown]);
  const backoff = createBackoff();
  let wanted = 0;
  let problem: string | undefined;
  /** Agents of older snapshots cannot rehearse. */
  let rehearses = true;

  const make = async (): Promise<PreparedClone> => {
    const id = node.machines.newId();
    const clone = await prepareClone(node, { id, snapshot, ports: [], weight: "preparing", signal });
    try {
      await clone.slot.prepared;
    } catch (error) {
      await clone[Symbol.asyncDispose]();
      throw error;
    }
    if (!rehearses) return await watched(clone);
    try {
      return await watched(await rehearse(clone, signal));
    } catch (error) {
      const { code, reason } = SporeletError.from(error, { operation: "rehearse" });
      if (code !== "incompatible") throw error;
      rehearses = false;
      node.log.info("slots without rehearsal", { digest, reason });
      return await make();
    }
  };
  /** From the moment on in which it is looked at: what has ended before never comes to lie among those that are ready. */
  const watched = async (clone: PreparedClone): Promise<PreparedClone> => {
    const ended = clone.slot.ended.then(() => true);
    // An end that is known by now shows within one turn of the event loop.
    if (await Promise.race([ended, setImmediate(false)])) {
      await discard(clone);
      const reason = "its VMM ended as soon as it was prepared";
      throw new SporeletError({
        code: "unavailable",
        operation: "prepare a clone of",
        subject: digest,
        reason,
      });
    }
    void ended
      .then(() => lost(clone))
      .catch((error) => node.log.error("slot not replaced", error, { digest }));
    return clone;
  };
  const whyNotNow = (): string | undefined => {
    if (backoff.waitMs(performance.now()) > 0)
      return "one after the other has failed: it is tried again later";
    return isRoomy(memory) ? undefined : tooLittleMemory;
  };
  /** @throws SporeletError `unavailable` when none is to be prepared now */
  const requireChance = () => {
    const reason = whyNotNow();
    if (reason === undefined) return;
    if (reason !== problem) node.log.warn("slots not prepared for now", { digest, reason });
    problem = reason;
    throw new SporeletError({
      ...{ code: "unavailable", operation: "prepare a clone of", subject: digest, reason },
    });
  };
  const supply = createSupply<PreparedClone>(
    {
      async make(count) {
        requireChance();
        try {
          const made = await Promise.all(Array.from({ length: count }, make));
          problem = undefined;
          return made;
        } catch (error) {
          const ours = SporeletError.from(error, {
            operation: "prepare a clone of",
            subject: digest,
          });
          if (!signal.aborted) {
            problem = ours.reason;
            backoff.failed(performance.now());
            node.log.error("slot not prepared", ours, { digest });
          }
          throw ours;
        }
      },
      async remove(clones) {
        for (const clone of clones) await discard(clone);
      },
    },
    { spare: 0, batchSize: 1 },
  );

  const discard = async (clone: PreparedClone) => {
    await clone[Symbol.asyncDispose]().catch((error) => {
      node.log.error("slot not removed", error, { id: clone.id });
    });
  };
  /** Its VMM has ended: killed for lack of memory, say. */
  const lost = async (clone: PreparedClone) => {
    if (!supply.ready().includes(clone)) return; // It was taken, or is being removed.
    supply.drop(clone);
    backoff.failed(performance.now());
    node.log.warn("slot lost", { id: clone.id, digest });
    await discard(clone);
    await supply.fill();
  };

  return {
    snapshot,
    take: () => supply.takeReady(),
    get wanted() {
      return wanted;
    },
    get ready() {
      return supply.ready().length;
    },
    get problem() {
      return supply.ready().length < wanted ? problem : undefined;
    },
    async resize(count) {
      wanted = count;
      await supply.resize(count);
    },
    async fill({ asked = false } = {}) {
      if (asked) backoff.reset();
      await supply.fill();
    },
    async privateBytes() {
      const uses = await Promise.all(
        supply.ready().map(({ slot }) => memoryUse(slot.pid).catch(() => ({ privateBytes: 0 }))),
      );
      return uses.reduce((sum, { privateBytes }) => sum + privateBytes, 0);
    },
    async close() {
      wanted = 0;
      closing.abort();
      await supply.close(
        new SporeletError({
          code: "cancelled",
          operation: "prepare a clone",
          reason: "it is no longer wanted",
        }),
      );
    },
  };
}
