import type { Group } from "./sweep.ts";

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

interface Account {
  /** Takes an owner away. @returns the bytes of the blocks that nobody has any more. */
  remove(owner: number): number;
}

/** @param ownerCount owners are the numbers below it. */
export function createShares(groups: readonly Group[], ownerCount: number): Shares {
  const ofOwner = Array.from({ length: ownerCount }, (): Group[] => []);
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
