/** Finds out what a clone touches from its resume to its first response, by resuming one. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { agent, connectAgent, firstContact, helloFrame } from "@sporelet/api";
import type { Warmup } from "@sporelet/compose-preheater";
import { SporeletError } from "@sporelet/errors";
import type { SnapshotDraft } from "@sporelet/store";
import type { Vmm } from "@sporelet/vmm";
import { type OnBuildEvent, startStep } from "../events.ts";
import type { Frozen } from "../freeze.ts";
import type { NetworkLease } from "../vm/network.ts";
import { driveToFirstResponse } from "./drive.ts";

/** Serves a frozen machine's files to one clone, and writes down which pages it touches. */
export interface Recorder {
  /** @throws SporeletError `unsupported` where this host cannot. */
  open(files: { memory: string; disk?: string }, signal: AbortSignal): Promise<Recording>;
}

export interface Recording extends AsyncDisposable {
  /** Paths for the clone. */
  memory: string;
  disk?: string;
  /** See `SlotSpec.launcher`. */
  launcher: readonly string[];
  /** What was touched so far, in the form of the file `workingset`, and how many pages that is. */
  workingSet(): Promise<{ bytes: Buffer; pages: number }>;
}

export interface RecordOptions {
  recorder: Recorder | undefined;
  vmm: Vmm;
  frozen: Frozen;
  draft: SnapshotDraft;
  kernelArguments: string[];
  network: NetworkLease | undefined;
  ports: readonly number[];
  warmup: readonly Warmup[];
  hookTimeoutMs: number;
  runtimeDirectory: string;
  signal: AbortSignal;
  onEvent: OnBuildEvent;
}

/** What it may add to a build. */
const recordTimeoutMs = 10_000;

/**
 * Puts the file `workingset` into the draft of a frozen machine. A snapshot is as good without it, only slower to
 * start where it is not stored: what keeps it from being recorded is said, and the build goes on.
 */
export async function recordWorkingSet(options: RecordOptions): Promise<void> {
  const { recorder, draft, onEvent, signal } = options;
  if (recorder === undefined) return;
  const step = startStep("workingset", onEvent);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(recordTimeoutMs)]);
  try {
    const { bytes, pages } = await record(recorder, options, limit);
    await writeFile(join(draft.directory, "workingset"), bytes, { mode: 0o600 });
    step.done(`${(pages / 256).toFixed(1)} MiB`);
  } catch (error) {
    if (signal.aborted) throw error;
    const { reason } = SporeletError.from(error, { operation: "record the working set" });
    step.done(`not recorded: ${reason}`);
  }
}

async function record(
  recorder: Recorder,
  options: RecordOptions,
  signal: AbortSignal,
): ReturnType<Recording["workingSet"]> {
  const { vmm, frozen, draft, network, hookTimeoutMs } = options;
  const at = (name: string) => join(draft.directory, name);
  const { shape } = frozen;
  await using undo = new AsyncDisposableStack();
  const files = { memory: at("memory"), ...(shape.disks > 0 && { disk: at("disk") }) };
  const recording = undo.use(await recorder.open(files, signal));
  const id = `record-${randomBytes(4).toString("hex")}`;
  const directory = at(id);
  await mkdir(directory);
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const spec = {
    ...{ id, directory, runtimeDirectory: options.runtimeDirectory, shape, launcher: recording.launcher },
    ...{ memory: recording.memory, vmstate: at("vmstate"), kernelArguments: options.kernelArguments },
    disks: recording.disk === undefined ? [] : [{ path: recording.disk }],
    ...(network && { network: network.backend }),
  };
  const slot = undo.use(await vmm.prepare(spec, signal));
  const hello = {
    kind: agent.HelloKind.RESUME,
    entropy: randomBytes(256),
    ...{ hostname: "sporelet", machineId: randomBytes(16).toString("hex"), generationId: randomUUID() },
    ...{ hookTimeoutMs, env: {} },
    ...(network && { network: { ...network.guest } }),
  };
  const { machine, channel } = await slot.resume({ firstWords: helloFrame(hello), signal });
  undo.use(machine);
  await firstContact(channel, "sent", { signal });
  const { client, close } = connectAgent(channel);
  undo.defer(() => close());
  await driveToFirstResponse({ ...options, client, network, signal });
  return await recording.workingSet();
}
