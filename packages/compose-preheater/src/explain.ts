/** Finds the one log that explains why a project did not come up, and keeps the others. */
import { SporeletError } from "@sporelet/errors";
import { healthLog, type InspectedContainer, serviceOf } from "./containers.ts";
import { containerLog, inspectProject } from "./docker.ts";
import type { Guest } from "./guest.ts";

export interface FailureContext {
  guest: Guest;
  project: string;
  signal: AbortSignal;
  timeouts: { upMs: number; healthyMs: number };
  sinceMs: number;
  console: () => Promise<string>;
  keepLogs?: (logs: Record<string, string>) => Promise<string>;
}

export interface Failure {
  reason: string;
  /** The container that failed. */
  container?: InspectedContainer | undefined;
  /** What the command that failed wrote. */
  output?: string;
  hint?: string;
  isWarmup?: boolean;
}

const tailLines = 25;
/** Looking at a guest that fails must not take as long as the failure. */
export const lookTimeoutMs = 30_000;
/** A machine that is merely short of page cache stays far below. */
const thrashingPercent = 25;
const dockerdLog = "/var/log/sporelet/dockerd.log";

export async function explainFailure(context: FailureContext, failure: Failure): Promise<SporeletError> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(lookTimeoutMs)]);
  const logs = await gatherLogs(context, signal);
  const { container } = failure;
  const containerText = container && logs[`${serviceOf(container)}.log`];
  const health = container === undefined ? "" : healthLog(container);
  const candidates = [
    [health, containerText].filter((text) => text?.trim()).join("\n"),
    failure.output ?? "",
    logs["dockerd.log"] ?? "",
    logs["console.log"] ?? "",
  ];
  const place = await context.keepLogs?.({
    ...logs,
    ...(failure.output && { "output.log": failure.output }),
  });
  const kept = place === undefined ? undefined : `all logs are in ${place}`;
  const exhausted = resourceProblem({ ...logs, output: failure.output ?? "", health });
  return new SporeletError({
    code: exhausted === undefined ? "guest_failed" : "resource_exhausted",
    operation: failure.isWarmup ? "warm up" : "bring up",
    subject: context.project,
    reason: exhausted === undefined ? failure.reason : `${exhausted.reason} (${failure.reason})`,
    hint: [exhausted?.hint ?? failure.hint, kept].filter(Boolean).join("; ") || undefined,
    log: tail(exhausted?.log ?? candidates.find((text) => text.trim() !== "") ?? ""),
  });
}

/** Whether the guest ran out of something, whatever failed because of it. Pure. */
function resourceProblem(
  logs: Record<string, string>,
): { reason: string; hint: string; log: string } | undefined {
  const kernel = logs["console.log"] ?? "";
  // Linux: mm/oom_kill.c. A cgroup's limit is the author's own ("Memory cgroup out of memory").
  const killed = /^.*(?<!cgroup )out of memory: Killed process \d+ \(([^)]*)\).*$/im.exec(kernel);
  if (killed !== null) {
    return {
      reason: `the machine has too little memory: the kernel killed ${killed[1]}`,
      hint: "give it more in sporelet.yaml (machine: memory)",
      log: kernel,
    };
  }
  // Linux: Documentation/accounting/psi.rst. Time in which nothing ran because everything waited for memory:
  // programs are read from the disk again and again, and nothing is killed.
  const stalled = Number(/^full .*avg60=([\d.]+)/m.exec(logs["memory-pressure.log"] ?? "")?.[1] ?? 0);
  if (stalled > thrashingPercent) {
    return {
      reason: `the machine has too little memory: it spends ${Math.round(stalled)} % of its time waiting for it`,
      hint: "give it more in sporelet.yaml (machine: memory)",
      log: kernel,
    };
  }
  for (const log of Object.values(logs)) {
    if (/no space left on device/i.test(log)) {
      return {
        reason: "the machine's disk is full",
        hint: "give it a larger one in sporelet.yaml (machine: disk)",
        log,
      };
    }
  }
  return undefined;
}

/** Everything that can be had: console, dockerd, and each container. */
async function gatherLogs(context: FailureContext, signal: AbortSignal): Promise<Record<string, string>> {
  const { guest, project } = context;
  const logs: Record<string, string> = { "console.log": await context.console().catch(() => "") };
  try {
    logs["memory-pressure.log"] = (await guest.exec(["cat", "/proc/pressure/memory"], { signal })).stdout;
    logs["dockerd.log"] = (await guest.exec(["tail", "-n", "1000", dockerdLog], { signal })).stdout;
    const containers = await inspectProject(guest, project, signal);
    for (const container of containers) {
      logs[`${serviceOf(container)}.log`] = await containerLog(guest, container.Id, "all", signal);
    }
  } catch {
    // A guest that does not answer any more still has its console.
  }
  return logs;
}

function tail(text: string): string {
  return text.trimEnd().split("\n").slice(-tailLines).join("\n");
}
