import { readFile } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomic } from "@sporelet/host";
import type { Wanted } from "./slots.ts";

/** What is to be kept ready, in `slots.json` of the store. */
export interface SlotRecord {
  reference: string;
  wanted: Wanted;
}

export async function writeSlotRecords(root: string, slots: readonly SlotRecord[]): Promise<void> {
  await writeFileAtomic(fileOf(root), `${JSON.stringify({ formatVersion: 1, slots })}\n`);
}

/** Nothing when there is no such file, or none that can be read: slots are only a matter of speed. */
export async function readSlotRecords(root: string): Promise<SlotRecord[]> {
  try {
    const { formatVersion, slots } = JSON.parse(await readFile(fileOf(root), "utf8"));
    return formatVersion === 1 && Array.isArray(slots) ? slots : [];
  } catch {
    return [];
  }
}

function fileOf(root: string): string {
  return path.join(root, "slots.json");
}
