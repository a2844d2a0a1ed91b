import type { StoredSnapshot } from "@sporelet/store";
import { lazyPartsOf } from "../lazy/types.ts";
import type { NodeParts } from "../node.ts";
import type { PreparedClone } from "../preparation.ts";
import type { StartPlan } from "../start.ts";
import { createDemand, type Demand } from "./demand.ts";
import { type HostMemory, hostMemory, isShort, tooLittleMemory } from "./memory.ts";
import { createPool, type Pool } from "./pool.ts";
import { readSlotRecords, type SlotRecord, writeSlotRecords } from "./records.ts";

/** How many clones are to be ready: a number, or as many as are asked for within a budget of memory. */
export type Wanted = { slots: number } | { automatic: true; memoryBytes: number };

export interface SlotStatus {
  /** The name under which it was asked for. */
  reference: string;
  digest: string;
  wanted: number;
  ready: number;
  automatic: boolean;
  privateBytes: number;
  problem?: string | undefined;
}

/** Clones that are prepared before they are asked for. */
export interface Slots extends AsyncDisposable {
  /** One for this plan, if one is ready that fits. It is the taker's. */
  take(plan: StartPlan): PreparedClone | undefined;
  /**
   * Keeps clones of a snapshot ready from now on, also after a restart of spored. With 0 it ends that. Returns when
   * all are ready, or one could not be prepared: `problem` says why.
   *
   * @param reference its name: what it names later on is kept ready instead as soon as it is run
   */
  keep(snapshot: StoredSnapshot, reference: string, wanted: Wanted): Promise<SlotStatus>;
  list(): Promise<SlotStatus[]>;
  /** As `list`, without what has to be measured. */
  counts(): Pick<SlotStatus, "reference" | "wanted" | "ready">[];
  /** Ends what is kept of a snapshot that is no more. */
  forget(digest: string): Promise<void>;
  /** At spored's start, in the background: goes on with what an earlier one kept. */
  restore(find: (reference: string) => Promise<StoredSnapshot>): Promise<void>;
}

/** What a prepared clone is taken to need before one has been measured: most of it is QEMU's own. */
const assumedBytes = 32 * 2 ** 20;
/** How often demand and memory are looked at, while anything is kept. */
const defaultReviewMs = 10_000;

export interface SlotsOptions {
  /** Default: the host's. */
  memory?: HostMemory;
  /** Default: 10,000 ms. */
  reviewMs?: number;
}

interface Kept {
  reference: string;
  pool: Pool;
  wanted: Wanted;
  demand: Demand;
  /** Keeps spored from ending for lack of work. */
  alive: Disposable;
}

export function createSlots(node: NodeParts, options: SlotsOptions = {}): Slots {
  const { memory = hostMemory, reviewMs = defaultReviewMs } = options;
  const all = new Map<string, Kept>();
  let review: NodeJS.Timeout | undefined;
  let bytesEach = assumedBytes;

  const targetOf = ({ wanted, demand }: Kept): number => {
    if (isShort(memory)) return 0;
    if ("slots" in wanted) return wanted.slots;
    return Math.min(demand.slots(performance.now()), Math.floor(wanted.memoryBytes / bytesEach));
  };
  const adjust = async (kept: Kept) => {
    const target = targetOf(kept);
    if (target !== kept.pool.wanted) await kept.pool.resize(target);
  };
  const reviewAll = async () => {
    for (const kept of all.values()) {
      await adjust(kept);
      void kept.pool.fill();
    }
  };
  const watch = () => {
    clearInterval(review);
    if (all.size > 0) review = setInterval(() => void reviewAll(), reviewMs).unref();
  };
  const save = () =>
    writeSlotRecords(
      node.store.root,
      [...all.values()].map(({ reference, wanted }): SlotRecord => ({ reference, wanted })),
    );
  const end = async (kept: Kept) => {
    all.delete(kept.pool.snapshot.digest);
    watch();
    await kept.pool.close();
    kept.alive[Symbol.dispose]();
  };
  const begin = (snapshot: StoredSnapshot, reference: string, wanted: Wanted): Kept => {
    const pool = createPool(node, snapshot, memory);
    const kept = { reference, pool, wanted, demand: createDemand(), alive: node.activity.begin() };
    all.set(snapshot.digest, kept);
    watch();
    return kept;
  };
  const statusOf = async ({ reference, pool, wanted }: Kept): Promise<SlotStatus> => {
    const { ready, problem = isShort(memory) ? tooLittleMemory : undefined } = pool;
    const privateBytes = await pool.privateBytes();
    if (ready > 0) bytesEach = Math.max(1, privateBytes / ready);
    const automatic = "automatic" in wanted;
    const { digest } = pool.snapshot;
    return { reference, digest, wanted: pool.wanted, ready, automatic, privateBytes, problem };
  };
  const keep = async (snapshot: StoredSnapshot, reference: string, wanted: Wanted): Promise<SlotStatus> => {
    const known = all.get(snapshot.digest);
    if ("slots" in wanted && wanted.slots === 0) {
      if (known !== undefined) await end(known);
      await save();
      return { reference, digest: snapshot.digest, wanted: 0, ready: 0, automatic: false, privateBytes: 0 };
    }
    const kept = known ?? begin(snapshot, reference, wanted);
    Object.assign(kept, { reference, wanted });
    await save();
    await adjust(kept);
    await kept.pool.fill({ asked: true });
    return await statusOf(kept);
  };
  /** The name was given to another snapshot meanwhile: that one is hot now. */
  const follow = ({ snapshot, reference }: StartPlan) => {
    const before = [...all.values()].find((kept) => kept.reference === reference);
    if (before === undefined || before.pool.snapshot.digest === snapshot.digest) return;
    void end(before)
      .then(() => keep(snapshot, reference, before.wanted))
      .catch((error) => node.log.error("slots not moved to the new snapshot", error, { reference }));
  };

  return {
    take(plan) {
      const { snapshot } = plan;
      if (all.size === 0 || lazyPartsOf(snapshot) !== undefined || plan.ksm !== undefined) return undefined;
      follow(plan);
      const kept = all.get(snapshot.digest);
      if (kept === undefined) return undefined;
      kept.demand.arrived(performance.now());
      if ("automatic" in kept.wanted) void adjust(kept);
      // Disks are limited before the guest runs for the first time, which it has.
      if (plan.limits?.ioBytesPerSecond !== undefined) return undefined;
      // A VMM that makes the network itself has to know the ports when it starts.
      if (snapshot.config.shape.network === "user" && plan.ports.length > 0) return undefined;
      return kept.pool.take();
    },
    keep,
    list: () => Promise.all([...all.values()].map(statusOf)),
    counts: () =>
      [...all.values()].map(({ reference, pool: { wanted, ready } }) => ({ reference, wanted, ready })),
    async forget(digest) {
      const kept = all.get(digest);
      if (kept === undefined) return;
      await end(kept);
      await save();
    },
    async restore(find) {
      for (const { reference, wanted } of await readSlotRecords(node.store.root)) {
        try {
          await keep(await find(reference), reference, wanted);
        } catch (error) {
          node.log.error("slots not kept any more", error, { reference });
        }
      }
    },
    async [Symbol.asyncDispose]() {
      clearInterval(review);
      for (const kept of all.values()) await kept.pool.close();
      all.clear();
    },
  };
}
