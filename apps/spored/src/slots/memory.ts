import { freemem, totalmem } from "node:os";

/** What slots look at of the host's memory. */
export interface HostMemory {
  /** What can be had without swapping, the page cache included where it can go. */
  availableBytes(): number;
  totalBytes(): number;
}

export const hostMemory: HostMemory = { availableBytes: freemem, totalBytes: totalmem };

/** When less than this share is available nothing is kept ready. */
const shortShare = 0.05;
/** Only when more than this share is available, another one is prepared. */
const roomyShare = 0.1;

/** Slots are to go: they are there for speed, and machines for what they do. */
export function isShort(memory: HostMemory): boolean {
  return memory.availableBytes() < shortShare * memory.totalBytes();
}

/**
 * Another slot may be prepared. Between this and `isShort` is room, in which those that are there stay: what ends slots
 * gives their memory back, and would otherwise be the reason to prepare them again.
 */
export function isRoomy(memory: HostMemory): boolean {
  return memory.availableBytes() > roomyShare * memory.totalBytes();
}

/** Why there are fewer than wanted. */
export const tooLittleMemory = `less than ${roomyShare * 100} % of the host's memory is available`;
