import { SporeletError } from "@sporelet/errors";
import { normalizeReference, type StoredSnapshot } from "@sporelet/store";
import { lazyPartsOf } from "../lazy/types.ts";
import type { NodeParts } from "../node.ts";
import type { PreparedClone } from "../preparation.ts";
import type { StartPlan } from "../start.ts";
import { createGate } from "../together.ts";
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
   * @param reference its name, for which they are kept: what it names later on is kept ready instead as soon as it is
   *   run. For other names of the same snapshot others are kept, and each serves all of them
   * @throws SporeletError `failed_precondition` when they are to end and are kept for another name only
   */
  keep(snapshot: StoredSnapshot, reference: string, wanted: Wanted): Promise<SlotStatus>;
  list(): Promise<SlotStatus[]>;
  /** As `list`, without what has to be measured. */
  counts(): Pick<SlotStatus, "reference" | "wanted" | "ready">[];
  /** Ends what is kept of a snapshot that is no more. */
  forget(digest: string): Promise<void>;
  /**
   * At spored's start, in the background: goes on with what an earlier one kept. What is called meanwhile comes after
   * that is known. Never rejects.
   */
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
  /** What demand is counted by, milliseconds. Default: `performance.now()` */
  now?: () => number;
}

interface Kept {
  /** `reference`, however it was written. */
  name: string;
  reference: string;
  pool: Pool;
  wanted: Wanted;
  demand: Demand;
  /** What one was measured to need for itself alone. */
  bytesEach?: number;
  /** Keeps spored from ending for lack of work. */
  alive: Disposable;
}

export function createSlots(node: NodeParts, options: SlotsOptions = {}): Slots {
  const { memory = hostMemory, reviewMs = defaultReviewMs, now = () => performance.now() } = options;
  const all = new Map<string, Kept>();
  const saving = createGate(1);
  /** Settles when what an earlier spored kept is known. */
  let recalled: Promise<unknown> = Promise.resolve();
  let review: NodeJS.Timeout | undefined;

  const targetOf = ({ wanted, demand, bytesEach = assumedBytes }: Kept): number => {
    if (isShort(memory)) return 0;
    if ("slots" in wanted) return wanted.slots;
    return Math.min(demand.slots(now()), Math.floor(wanted.memoryBytes / bytesEach));
  };
  const adjust = async (kept: Kept) => {
    const target = targetOf(kept);
    if (target !== kept.pool.wanted) await kept.pool.resize(target);
  };
  const measure = async (kept: Kept): Promise<number> => {
    const { ready } = kept.pool;
    const privateBytes = await kept.pool.privateBytes();
    if (ready > 0) kept.bytesEach = Math.max(1, privateBytes / ready);
    return privateBytes;
  };
  /** What nobody waits for. */
  const inBackground = (what: string, { reference }: Pick<Kept, "reference">, task: Promise<unknown>) =>
    void task.catch((error) => node.log.error(what, error, { reference }));
  const reviewOne = async (kept: Kept) => {
    if (kept.bytesEach === undefined) await measure(kept);
    await adjust(kept);
    await kept.pool.fill();
  };
  const watch = () => {
    clearInterval(review);
    if (all.size === 0) return;
    review = setInterval(() => {
      for (const kept of all.values()) inBackground("slots not reviewed", kept, reviewOne(kept));
    }, reviewMs).unref();
  };
  /** What is kept at the time of the writing, so that the last one writes what is true. */
  const save = () =>
    saving(() =>
      writeSlotRecords(
        node.store.root,
        [...all.values()].map(({ reference, wanted }): SlotRecord => ({ reference, wanted })),
      ),
    );
  const end = async (kept: Kept) => {
    if (all.get(kept.name) === kept) all.delete(kept.name);
    watch();
    await kept.pool.close();
    kept.alive[Symbol.dispose]();
  };
  const begin = (snapshot: StoredSnapshot, reference: string, wanted: Wanted): Kept => {
    const pool = createPool(node, snapshot, memory);
    const name = nameOf(reference);
    const kept = { name, reference, pool, wanted, demand: createDemand(now()), alive: node.activity.begin() };
    all.set(name, kept);
    watch();
    return kept;
  };
  const statusOf = async (kept: Kept): Promise<SlotStatus> => {
    const { reference, pool, wanted } = kept;
    const { ready, problem = isShort(memory) ? tooLittleMemory : undefined } = pool;
    const privateBytes = await measure(kept);
    const automatic = "automatic" in wanted;
    const { digest } = pool.snapshot;
    return { reference, digest, wanted: pool.wanted, ready, automatic, privateBytes, problem };
  };
  const keptOf = (digest: string) => [...all.values()].filter(({ pool }) => pool.snapshot.digest === digest);

  const keep: Slots["keep"] = async (snapshot, reference, wanted) => {
    await recalled;
    const { digest } = snapshot;
    const known = all.get(nameOf(reference));
    if ("slots" in wanted && wanted.slots === 0) {
      if (known === undefined) requireNone(reference, keptOf(digest));
      else await end(known);
      await save();
      return { reference, digest, wanted: 0, ready: 0, automatic: false, privateBytes: 0 };
    }
    const same = known?.pool.snapshot.digest === digest;
    if (known !== undefined && !same) await end(known);
    const kept = known !== undefined && same ? known : begin(snapshot, reference, wanted);
    Object.assign(kept, { reference, wanted });
    if (kept.demand.slots(now()) === 0) kept.demand = createDemand(now());
    await save();
    await adjust(kept);
    await kept.pool.fill({ asked: true });
    return await statusOf(kept);
  };
  /** The name was given to another snapshot meanwhile: that one is hot now. */
  const follow = ({ snapshot, reference }: StartPlan) => {
    const before = all.get(nameOf(reference));
    if (before === undefined || before.pool.snapshot.digest === snapshot.digest) return;
    const moved = end(before).then(() => keep(snapshot, before.reference, before.wanted));
    inBackground("slots not moved to the new snapshot", before, moved);
  };
  /** All of them at once, before any is prepared: a spored that is killed meanwhile must not have lost the others. */
  const recall = async (find: (reference: string) => Promise<StoredSnapshot>): Promise<Kept[]> => {
    const records = await readSlotRecords(node.store.root);
    const known: Kept[] = [];
    for (const { reference, wanted } of records) {
      try {
        const snapshot = await find(reference);
        if (!all.has(nameOf(reference))) known.push(begin(snapshot, reference, wanted));
      } catch (error) {
        node.log.error("slots not kept any more", error, { reference });
      }
    }
    if (known.length < records.length) await save();
    return known;
  };

  return {
    take(plan) {
      const { snapshot } = plan;
      if (all.size === 0 || lazyPartsOf(snapshot) !== undefined || plan.ksm !== undefined) return undefined;
      follow(plan);
      const serving = keptOf(snapshot.digest);
      const asked = serving.find(({ name }) => name === nameOf(plan.reference)) ?? serving[0];
      if (asked === undefined) return undefined;
      asked.demand.arrived(now());
      if ("automatic" in asked.wanted) inBackground("slots not adjusted", asked, adjust(asked));
      // Disks are limited before the guest runs for the first time, which it has.
      if (plan.limits?.ioBytesPerSecond !== undefined) return undefined;
      // A VMM that makes the network itself has to know the ports when it starts.
      if (snapshot.config.shape.network === "user" && plan.ports.length > 0) return undefined;
      for (const { pool } of [asked, ...serving.filter((kept) => kept !== asked)]) {
        const clone = pool.take();
        if (clone !== undefined) return clone;
      }
      return undefined;
    },
    keep,
    list: () => Promise.all([...all.values()].map(statusOf)),
    counts: () =>
      [...all.values()].map(({ reference, pool: { wanted, ready } }) => ({ reference, wanted, ready })),
    async forget(digest) {
      await recalled;
      const gone = keptOf(digest);
      for (const kept of gone) await end(kept);
      if (gone.length > 0) await save();
    },
    async restore(find) {
      const recalling = recall(find);
      recalled = recalling.catch(() => {});
      try {
        for (const kept of await recalling) {
          // Somebody may have ended it meanwhile.
          if (all.get(kept.name) !== kept) continue;
          await adjust(kept);
          await kept.pool.fill();
        }
      } catch (error) {
        node.log.error("slots not kept again", error);
      }
    },
    async [Symbol.asyncDispose]() {
      clearInterval(review);
      for (const kept of all.values()) await kept.pool.close();
      all.clear();
    },
  };
}

/** A name is the same with its default tag and without; digests are no names. */
function nameOf(reference: string): string {
  try {
    return normalizeReference(reference);
  } catch {
    return reference;
  }
}

/** Slots that are to end are there for another name: nobody is to believe that they have. */
function requireNone(reference: string, others: readonly Kept[]): void {
  const [other] = others;
  if (other === undefined) return;
  const names = others.map((kept) => kept.reference).join(" and ");
  throw new SporeletError({
    code: "failed_precondition",
    operation: "end the slots of",
    subject: reference,
    reason: `its clones are kept ready for another name, ${names}`,
    hint: `sporectl warm ${other.reference} --slots 0`,
  });
}
