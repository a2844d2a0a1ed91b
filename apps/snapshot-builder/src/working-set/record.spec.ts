import { readdir } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { temporaryDirectory } from "@sporelet/host/testing";
import type { Vmm } from "@sporelet/vmm";
import { expect, it } from "vitest";
import type { BuildEvent } from "../events.ts";
import { type RecordOptions, recordWorkingSet } from "./record.ts";

async function record(directory: string, options: Partial<RecordOptions>): Promise<BuildEvent[]> {
  const events: BuildEvent[] = [];
  await recordWorkingSet({
    recorder: undefined,
    vmm: {} as Vmm,
    frozen: {
      shape: { cpus: 1, memoryBytes: 2 ** 20, accelerator: "tcg", disks: 0, network: "none", mac: "" },
      agent: { protocol: 1, version: "test" },
      pauseMs: 0,
    },
    draft: { directory } as RecordOptions["draft"],
    ...{ kernelArguments: [], network: undefined, ports: [], warmup: [], hookTimeoutMs: 0 },
    ...{ runtimeDirectory: directory, signal: new AbortController().signal },
    onEvent: (event) => events.push(event),
    ...options,
  });
  return events;
}

const refusing = {
  open: () =>
    Promise.reject(
      new SporeletError({ code: "unsupported", operation: "record", reason: "there is no FUSE" }),
    ),
};

it("says why a working set was not recorded, and lets the build go on", async () => {
  await using directory = await temporaryDirectory();
  const events = await record(directory.path, { recorder: refusing });
  expect(events.at(-1)).toMatchObject({
    id: "workingset",
    state: "done",
    detail: "not recorded: there is no FUSE",
  });
  expect(await readdir(directory.path)).toEqual([]);
});

it("says nothing where working sets cannot be recorded anyway", async () => {
  await using directory = await temporaryDirectory();
  expect(await record(directory.path, {})).toEqual([]);
});

it("is called off with the build", async () => {
  await using directory = await temporaryDirectory();
  const signal = AbortSignal.abort(new DOMException("called off", "AbortError"));
  await expect(record(directory.path, { recorder: refusing, signal })).rejects.toThrow();
});
