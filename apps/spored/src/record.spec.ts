import { writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { type MachineRecord, readRecord, writeRecord } from "./record.ts";

describe("the record in a machine's directory", () => {
  it("is told apart from none, which is that of a machine that was never handed over", async () => {
    await using directory = await temporaryDirectory();
    expect(await readRecord(directory.path)).toBeUndefined();
    const record = {
      formatVersion: 1,
      id: "1",
      state: "suspended",
      directory: directory.path,
    } as MachineRecord;
    await writeRecord(record);
    expect(await readRecord(directory.path)).toEqual(record);
  });

  it.for([
    ["what a crash of the host may leave", "", "is empty"],
    ["half a record", '{"formatVersion":1,', "is no record"],
    ["what is none", "null", "is no record"],
    ["one of a later version", '{"formatVersion":2}', "has the format 2"],
    ["one of a store that was moved", '{"formatVersion":1,"directory":"/elsewhere"}', "in /elsewhere"],
  ] as const)("is corrupt, not absent, when it is %s", async ([, text, reason]) => {
    await using directory = await temporaryDirectory();
    await writeFile(path.join(directory.path, "machine.json"), text);
    await expect(readRecord(directory.path)).rejects.toMatchObject({
      code: "corrupt",
      reason: expect.stringContaining(reason),
    });
  });
});
