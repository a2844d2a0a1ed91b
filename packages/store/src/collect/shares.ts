/** What one owner, such as a snapshot, has on the disk. */
export interface Holding {
  /** Stretches of blocks: address and length by turns, bytes, in any order. */
  extents: readonly number[];
  /** Bytes at addresses that are not known, which count as its own. */
  elsewhereBytes: number;
}

/** Who has which blocks: sizes in which what several have is counted once. Owners are numbers from 0. */
export interface Shares {
  /** Bytes of all blocks that an owner has. */
  totalOf(owner: number): number;
  /** Bytes of the blocks that this owner alone has. */
  ownOf(owner: number): number;
  /** Bytes of the blocks that one of these owners has, each counted once. */
  unionOf(owners: (owner: number) => boolean): number;
  /** Bytes of the blocks that one of `some` has, and nobody but `owners`. */
  freedBy(owners: (owner: number) => boolean, some: (owner: number) => boolean): number;
  /** An account of what is freed when owners go, one after the other. */
  account(): Account;
}

export interface Account {
  /** Takes an owner away. @returns the bytes of the blocks that nobody has any more. */
  remove(owner: number): number;
}

// An event of the sweep is one number, so that a million of them are sorted in a blink: 36 bits for the place
// in sectors (32 TiB), 16 for the owner, one for whether the stretch begins or ends there.
const sectorBytes = 512;
const mostSectors = 2 ** 36;
const mostOwners = 2 ** 16;
const perSector = mostOwners * 2;

/**
 * Finds out who has which blocks, by a sweep over all of them in order of their address.
 *
 * @throws RangeError for more than 65,536 owners.
 */
export function createShares(holdings: readonly Holding[]): Shares {
  if (holdings.length > mostOwners) throw new RangeError("too many owners of blocks");
  const groups = groupsOf(holdings);
  const ofOwner = holdings.map((): Group[] => []);
  for (const group of groups) for (const owner of group.owners) ofOwner[owner]?.push(group);
  const bytesOf = (chosen: readonly Group[], test: (owners: number[]) => boolean) =>
    chosen.reduce((sum, { owners, bytes }) => (test(owners) ? sum + bytes : sum), 0);
  return {
    totalOf: (owner) => bytesOf(ofOwner[owner] ?? [], () => true),
    ownOf: (owner) => bytesOf(ofOwner[owner] ?? [], ({ length }) => length === 1),
    unionOf: (chosen) => bytesOf(groups, (owners) => owners.some(chosen)),
    freedBy: (chosen, some) => bytesOf(groups, (owners) => owners.some(some) && owners.every(chosen)),
    account() {
      const gone = new Set<number>();
      return {
        remove(owner) {
          if (gone.has(owner)) return 0;
          gone.add(owner);
          return bytesOf(ofOwner[owner] ?? [], (owners) => owners.every((each) => gone.has(each)));
        },
      };
    },
  };
}

/** Blocks that exactly these owners have. */
interface Group {
  owners: number[];
  bytes: number;
}

function groupsOf(holdings: readonly Holding[]): Group[] {
  const elsewhere: Group[] = [];
  let count = 0;
  for (const { extents } of holdings) count += extents.length;
  const events = new Float64Array(count);
  let filled = 0;
  for (const [owner, { extents, elsewhereBytes }] of holdings.entries()) {
    let unknown = elsewhereBytes;
    for (let i = 0; i + 1 < extents.length; i += 2) {
      const [address = 0, length = 0] = [extents[i], extents[i + 1]];
      const start = Math.floor(address / sectorBytes);
      const end = Math.ceil((address + length) / sectorBytes);
      if (end >= mostSectors) unknown += length;
      else if (end > start) {
        events[filled++] = start * perSector + owner * 2;
        events[filled++] = end * perSector + owner * 2 + 1;
      }
    }
    if (unknown > 0) elsewhere.push({ owners: [owner], bytes: unknown });
  }
  return [...elsewhere, ...sweep(events.subarray(0, filled).sort())];
}

/** Who has the place that the sweep is at: owners in order, one as often as it has the place. */
interface State {
  owners: number[];
  bytes: number;
  /** The states that events lead to, by event. There are few states, and a million events. */
  next: Map<number, State>;
}

function sweep(events: Float64Array): Group[] {
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
  return [...states.values()]
    .filter(({ owners, bytes }) => owners.length > 0 && bytes > 0)
    .map(({ owners, bytes }) => ({ owners: [...new Set(owners)], bytes }));
}

function afterChange(owners: readonly number[], change: number): number[] {
  const owner = Math.floor(change / 2);
  const at = owners.indexOf(owner);
  if (change % 2 === 1) return owners.toSpliced(at, 1);
  return [...owners, owner].sort((a, b) => a - b);
}
