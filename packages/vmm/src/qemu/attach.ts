import type { Machine, MachineRecord } from "../contract.ts";

export async function attachQemu(_record: MachineRecord, _signal?: AbortSignal): Promise<Machine | undefined> {
  throw new Error("not yet");
}
