import { readFile } from "node:fs/promises";
import path from "node:path";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { allocatedBytes, memoryUse } from "@sporelet/host";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";

/** How long a guest may take to tell of itself; a busy one is left out of that sample. */
const factsTimeoutMs = 2_000;
/** USER_HZ, in which /proc tells CPU time: 100 on every architecture that Linux has user space for (proc(5)). */
const ticksPerSecond = 100;

/** Stats: one sample, or one every `interval_ms`. */
export async function* stats(
  node: Node,
  request: api.StatsRequest,
  context: HandlerContext,
): AsyncGenerator<api.StatsResponse> {
  const wanted = request.machines.map((reference) => node.machines.find(reference, "measure"));
  const before = new Map<string, CpuSample>();
  const end = AbortSignal.any([context.signal, node.shutdown]);
  for (;;) {
    const machines = wanted.length > 0 ? wanted : [...node.machines];
    const samples = await Promise.all(machines.map((machine) => sample(machine, before)));
    yield create(api.StatsResponseSchema, { machines: samples });
    if (request.intervalMs === 0) return;
    await interval(request.intervalMs, end);
    if (end.aborted) return;
  }
}

interface CpuSample {
  cpuMs: number;
  at: number;
}

async function sample(machine: ManagedMachine, before: Map<string, CpuSample>): Promise<api.MachineStats> {
  const { id, name, record, live } = machine;
  const base = { id, name, state: record.state, cpuShare: -1 };
  const disk = path.join(record.directory, "disk");
  const diskBytes = record.diskBytes > 0 ? await allocatedBytes(disk).catch(() => 0) : 0;
  if (live === undefined) return create(api.MachineStatsSchema, { ...base, diskBytes: BigInt(diskBytes) });
  const [memory, cpuMs, facts] = await Promise.all([
    memoryUse(live.vm.pid).catch(() => ({ rssBytes: 0, pssBytes: 0, privateBytes: 0 })),
    cpuTimeMs(live.vm.pid),
    record.state === "running" ? factsOf(machine) : undefined,
  ]);
  const now = performance.now();
  const last = before.get(id);
  before.set(id, { cpuMs, at: now });
  return create(api.MachineStatsSchema, {
    ...base,
    cpuMs,
    cpuShare: last === undefined ? -1 : (cpuMs - last.cpuMs) / (now - last.at),
    rssBytes: BigInt(memory.rssBytes),
    pssBytes: BigInt(memory.pssBytes),
    privateBytes: BigInt(memory.privateBytes),
    diskBytes: BigInt(diskBytes),
    guestMemoryTotalBytes: facts?.memoryTotalBytes ?? 0n,
    guestMemoryAvailableBytes: facts?.memoryAvailableBytes ?? 0n,
    guestLoad1: facts?.load1 ?? 0,
    uptimeMs: BigInt(Date.now() - Date.parse(record.created)),
  });
}

async function factsOf(machine: ManagedMachine) {
  const signal = AbortSignal.timeout(factsTimeoutMs);
  try {
    using lease = await machine.live?.agent.lease(signal);
    return await lease?.client.facts({}, { signal });
  } catch {
    return undefined;
  }
}

/** User and system time of a process (fields 14 and 15 of /proc/PID/stat); 0 when it is gone. */
export async function cpuTimeMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 1000) / ticksPerSecond;
}

function interval(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener("abort", done, { once: true });
  });
}
