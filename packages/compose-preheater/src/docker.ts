/** The docker command line inside the guest, as far as the preheater uses it. */
import { SporeletError } from "@sporelet/errors";
import type { InspectedContainer } from "./containers.ts";
import type { Guest } from "./guest.ts";

const projectLabel = "com.docker.compose.project";

/** All containers of a project, stopped ones too. */
export async function inspectProject(
  guest: Guest,
  project: string,
  signal: AbortSignal,
): Promise<InspectedContainer[]> {
  // One shell for two programs: each round trip and each start counts under software emulation.
  const script = `ids=$(docker ps -aq --no-trunc --filter "label=${projectLabel}=$1") || exit 1
[ -z "$ids" ] && echo '[]' || docker inspect $ids`;
  const { code, stdout, stderr } = await guest.exec(["sh", "-c", script, "inspect", project], { signal });
  if (code === 0) return JSON.parse(stdout) as InspectedContainer[];
  // A container that went away between the two commands: the next event asks again.
  if (/no such (object|container)/i.test(stderr)) return [];
  throw new SporeletError({
    code: "guest_failed",
    operation: "look at the containers of",
    subject: project,
    reason: "docker does not answer",
    log: stderr,
  });
}

/**
 * Calls `onEvent` for each change of one of a project's containers until the signal aborts, beginning with
 * what happened after `sinceMs` (wall clock, milliseconds), so that nothing falls between asking and listening.
 */
export async function followProject(
  guest: Guest,
  project: string,
  options: { sinceMs: number; onEvent: (name: string, container: string) => void; signal: AbortSignal },
): Promise<void> {
  const argv = [
    "docker",
    "events",
    "--since",
    `${Math.floor(options.sinceMs / 1000)}`,
    "--filter",
    "type=container",
  ];
  const { code, stderr } = await guest.exec(
    [...argv, "--filter", `label=${projectLabel}=${project}`, "--format", "{{.Status}} {{.ID}}"],
    {
      signal: options.signal,
      onLine(source, line) {
        // "exec_start: redis-cli ping ID": what was executed may hold blanks.
        const words = line.split(" ");
        if (source === "stdout") options.onEvent((words[0] ?? "").replace(/:$/, ""), words.at(-1) ?? "");
      },
    },
  );
  throw new SporeletError({
    code: "guest_failed",
    operation: "follow the containers of",
    subject: project,
    reason: `docker events ended with code ${code}`,
    log: stderr,
  });
}

/** The last lines that a container wrote. Empty when they cannot be had. */
export async function containerLog(
  guest: Guest,
  id: string,
  lines: number | "all",
  signal: AbortSignal,
): Promise<string> {
  try {
    const script = 'exec docker logs --tail "$1" "$2" 2>&1';
    return (await guest.exec(["sh", "-c", script, "logs", `${lines}`, id], { signal })).stdout;
  } catch {
    return "";
  }
}
