import { setImmediate } from "node:timers/promises";

/** What one owner, such as a snapshot, has on the disk. */
export interface Holding {
  /** Stretches of blocks: address and length by turns, bytes, in any order. */
  extents: readonly number[];
  /** Bytes at addresses that are not known, which count as its own. */
  elsewhereBytes: number;
}

/** Blocks that exactly these owners have. */
export interface Group {
  owners: number[];
  bytes: number;
}

// An event of the sweep is one number, so that a million of them are quickly sorted: 36 bits for the place in
// sectors (32 TiB), 16 for the owner, one for whether a stretch begins or ends there.
const sectorBytes = 512;
const mostSectors = 2 ** 36;
const mostOwners = 2 ** 16;
const perSector = mostOwners * 2;
/** Events that are sorted at once. Between two such lots other work gets its turn: clones may be starting. */
const lotEvents = 16_384;
const samplesPerLot = 16;

/**
 * Finds out which blocks belong to whom, by a sweep over all of them in order of their address. A million
 * stretches take about half a second on one core, no more than some milliseconds at a time.
 *
 * @throws RangeError for more than 65,536 owners.
 */
export async function groupBlocks(holdings: readonly Holding[]): Promise<Group[]> {
  if (holdings.length > mostOwners) throw new RangeError("too many owners of blocks");
  const groups: Group[] = [];
  let most = 0;
  for (const { extents } of holdings) most += extents.length;
  const events = new Float64Array(most);
  let filled = 0;
  for (const [owner, { extents, elsewhereBytes }] of holdings.entries()) {
    let unknown = elsewhereBytes;
    for (let i = 0; i + 1 < extents.length; i += 2) {
      const address = extents[i] as number;
      const length = extents[i + 1] as number;
      const start = Math.floor(address / sectorBytes);
      const end = Math.ceil((address + length) / sectorBytes);
      if (end >= mostSectors) unknown += length;
      else if (end > start) {
        events[filled++] = start * perSector + owner * 2;
        events[filled++] = end * perSector + owner * 2 + 1;
      }
    }
    if (unknown > 0) groups.push({ owners: [owner], bytes: unknown });
    if (extents.length > lotEvents) await setImmediate();
  }
  const sweep = createSweep();
  for await (const lot of sortedLots(events.subarray(0, filled))) sweep.add(lot);
  return [...groups, ...sweep.groups()];
}

/** The events in order, in lots of about the same size whose bounds are guessed from samples. */
async function* sortedLots(events: Float64Array): AsyncGenerator<Float64Array> {
  const lotCount = Math.ceil(events.length / lotEvents);
  const sampleCount = lotCount * samplesPerLot;
  const samples = Float64Array.from(
    { length: sampleCount },
    (_, i) => events[Math.floor((i * events.length) / sampleCount)] as number,
  ).sort();
  const bounds = Array.from({ length: lotCount - 1 }, (_, i) => samples[(i + 1) * samplesPerLot] as number);
  const lotOf = (event: number) => {
    let [low, high] = [0, bounds.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (event < (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  const lots = Array.from({ length: lotCount }, (): number[] => []);
  for (const [i, event] of events.entries()) {
    lots[lotOf(event)]?.push(event);
    if (i % lotEvents === lotEvents - 1) await setImmediate();
  }
  for (const lot of lots) {
    yield Float64Array.from(lot).sort();
    await setImmediate();
  }
}

/** Who has the place that the sweep is at: owners in order, one as often as it has the place. */
interface State {
  owners: number[];
  bytes: number;
  /** The states that events lead to, by event. There are few states, and a million events. */
  next: Map<number, State>;
}

function createSweep() {
  const states = new Map<string, State>();
  const stateOf = (owners: number[]) => {
    const key = owners.join(" ");
    let state = states.get(key);
    if (state === undefined) {
      state = { owners, bytes: 0, next: new Map() };
      states.set(key, state);
    }
    return state;
  };
  let state = stateOf([]);
  let at = 0;
  return {
    add(events: Float64Array): void {
      for (const event of events) {
        const change = event % perSector;
        const sector = (event - change) / perSector;
        state.bytes += (sector - at) * sectorBytes;
        at = sector;
        let next = state.next.get(change);
        if (next === undefined) {
          next = stateOf(afterChange(state.owners, change));
          state.next.set(change, next);
        }
        state = next;
      }
    },
    groups: (): Group[] =>
      [...states.values()]
        .filter(({ owners, bytes }) => owners.length > 0 && bytes > 0)
        .map(({ owners, bytes }) => ({ owners: [...new Set(owners)], bytes })),
  };
}

function afterChange(owners: readonly number[], change: number): number[] {
  const owner = Math.floor(change / 2);
  if (change % 2 === 1) return owners.toSpliced(owners.indexOf(owner), 1);
  return [...owners, owner].sort((a, b) => a - b);
}
