/** Whether a project's containers are up, from what `docker inspect` says of them. Pure. */

interface HealthcheckRun {
  ExitCode: number;
  Output: string;
  /** RFC 3339, the guest's clock. */
  Start?: string;
  End?: string;
}

/** The parts of `docker inspect` that are looked at. */
export interface InspectedContainer {
  Id: string;
  Name: string;
  RestartCount: number;
  State: {
    Status: "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";
    ExitCode: number;
    OOMKilled: boolean;
    Error: string;
    Health?: { Status: string; Log?: HealthcheckRun[] | null };
  };
  Config: { Labels: Record<string, string> | null; Healthcheck?: { Interval?: number } | null };
  HostConfig: { RestartPolicy: { Name: string } };
}

export interface Verdict {
  /** Every container runs, and is healthy if it says so; or has done its job. */
  ready: boolean;
  /** What is still waited for: "redis is starting". */
  waiting: { container: InspectedContainer; why: string }[];
  /** Waiting longer is of no use. */
  failed?: { container: InspectedContainer; why: string };
  /** Ready ones over all, 0 to 1. */
  fraction: number;
}

/** A container that dockerd restarts is given up after so many times. */
const maxRestarts = 5;

export function judge(containers: readonly InspectedContainer[]): Verdict {
  const waiting: Verdict["waiting"] = [];
  let failed: Verdict["failed"];
  for (const container of containers) {
    const found = judgeOne(container);
    if (found === "ready") continue;
    if ("failed" in found) failed ??= { container, why: found.failed };
    else waiting.push({ container, why: found.waiting });
  }
  const open = waiting.length + (failed === undefined ? 0 : 1);
  return {
    ready: containers.length > 0 && open === 0,
    waiting,
    ...(failed && { failed }),
    fraction: containers.length === 0 ? 0 : 1 - open / containers.length,
  };
}

function judgeOne({
  State,
  HostConfig,
  RestartCount,
}: InspectedContainer): "ready" | { failed: string } | { waiting: string } {
  const restarts = !["", "no"].includes(HostConfig.RestartPolicy.Name);
  switch (State.Status) {
    case "running":
      if (RestartCount >= maxRestarts) return { failed: `keeps exiting (${RestartCount} restarts)` };
      if (State.Health === undefined || ["healthy", "none", ""].includes(State.Health.Status)) return "ready";
      return { waiting: State.Health.Status === "starting" ? "not healthy yet" : State.Health.Status };
    case "exited":
      if (State.OOMKilled) return { failed: "was killed because its memory limit was reached" };
      // With "always" a clean end is followed by a restart; otherwise it is a job that is done.
      if (State.ExitCode === 0) {
        const again = ["always", "unless-stopped"].includes(HostConfig.RestartPolicy.Name);
        return again ? { waiting: "restarting" } : "ready";
      }
      if (restarts && RestartCount < maxRestarts) return { waiting: `exited with code ${State.ExitCode}` };
      return { failed: `exited with code ${State.ExitCode}${State.Error === "" ? "" : `: ${State.Error}`}` };
    case "restarting":
      if (RestartCount < maxRestarts) return { waiting: `exited with code ${State.ExitCode}` };
      return { failed: `keeps exiting with code ${State.ExitCode} (${RestartCount} restarts)` };
    case "dead":
    case "removing":
      return { failed: `is ${State.Status}` };
    case "paused":
    case "created":
      return State.Error === "" ? { waiting: State.Status } : { failed: State.Error };
  }
}

/** The Compose service of a container, for people. */
export function serviceOf(container: InspectedContainer): string {
  return container.Config.Labels?.["com.docker.compose.service"] ?? container.Name.replace(/^\//, "");
}

/** What the last healthchecks wrote, newest last. */
export function healthLog(container: InspectedContainer): string {
  const checks = container.State.Health?.Log ?? [];
  return checks
    .slice(-3)
    .map(
      ({ ExitCode, Output }) => `healthcheck exited with code ${ExitCode}: ${Output.trim() || "(no output)"}`,
    )
    .join("\n");
}
