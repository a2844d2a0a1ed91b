import { SporeletError } from "@sporelet/errors";
import { createSupply, memoryUse } from "@sporelet/host";
import type { StoredSnapshot } from "@sporelet/store";
import type { NodeParts } from "../node.ts";
import { type PreparedClone, prepareClone } from "../preparation.ts";
import { rehearse } from "./rehearsal.ts";

/** Prepared clones of one snapshot. */
export interface Pool {
  readonly snapshot: StoredSnapshot;
  /** One that is ready, or nothing. Another one is made when no more are taken for a moment. */
  take(): PreparedClone | undefined;
  readonly wanted: number;
  readonly ready: number;
  /** Why the last one could not be prepared; undefined when it could. */
  readonly problem: string | undefined;
  /** Changes how many are to be ready; what is missing is made by `fill`. */
  resize(wanted: number): Promise<void>;
  /** Makes what is missing. Resolves when all are ready, or one could not be prepared. */
  fill(): Promise<void>;
  /** Memory that those that are ready have for themselves alone. */
  privateBytes(): Promise<number>;
  /** Ends those that are ready. */
  close(): Promise<void>;
}

/** They are prepared one after the other, when nobody takes any: a burst of resumes needs the CPU itself. */
export function createPool(node: NodeParts, snapshot: StoredSnapshot): Pool {
  const closing = new AbortController();
  const signal = AbortSignal.any([closing.signal, node.shutdown]);
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
    if (!rehearses) return watched(clone);
    try {
      return watched(await rehearse(clone, signal));
    } catch (error) {
      const { code, reason } = SporeletError.from(error, { operation: "rehearse" });
      if (code !== "incompatible") throw error;
      rehearses = false;
      node.log.info("slots without rehearsal", { digest: snapshot.digest, reason });
      return await make();
    }
  };
  const watched = (clone: PreparedClone) => {
    void clone.slot.ended.then(() => lost(clone));
    return clone;
  };
  const supply = createSupply<PreparedClone>(
    {
      async make(count) {
        try {
          const made = await Promise.all(Array.from({ length: count }, make));
          problem = undefined;
          return made;
        } catch (error) {
          const ours = SporeletError.from(error, {
            operation: "prepare a clone of",
            subject: snapshot.digest,
          });
          if (!signal.aborted) {
            problem = ours.reason;
            node.log.error("slot not prepared", ours, { digest: snapshot.digest });
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
    node.log.warn("slot lost", { id: clone.id, digest: snapshot.digest });
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
      return problem;
    },
    async resize(count) {
      wanted = count;
      await supply.resize(count);
    },
    fill: () => supply.fill(),
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
