import { expect, it, vi } from "vitest";
import { createMachine } from "./machine.ts";
import type { MachineRecord } from "./record.ts";

const written: string[] = [];

vi.mock("./record.ts", () => ({
  writeRecord: async ({ state }: MachineRecord) => void written.push(`${state}, in the page cache`),
  writeRecordDurably: async ({ state }: MachineRecord) => void written.push(`${state}, on the disk`),
}));

it("a machine's record survives a crash of the host whenever it says that the machine is suspended", async () => {
  const machine = createMachine({ id: "0123456789ab", name: "sleeper", state: "running" } as MachineRecord);
  await machine.update({ ports: [] });
  await machine.commit({ state: "suspended" });
  // It did not wake, or its ports could not be opened.
  await machine.update({ failure: "it did not wake: no memory" });
  await machine.update({ state: "running", failure: undefined });
  await machine.update({ state: "suspended" });
  expect(written).toEqual([
    ...["running, in the page cache", "suspended, on the disk", "suspended, on the disk"],
    ...["running, in the page cache", "suspended, on the disk"],
  ]);
});
