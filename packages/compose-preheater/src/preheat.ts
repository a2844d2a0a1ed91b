/**
 * Brings a Compose project up inside a guest and waits until it is truly warm: every container running, every
 * healthcheck healthy, every warm-up answered, and all of that still true at the end.
 */
import { SporeletError } from "@sporelet/errors";
import { type InspectedContainer, judge, serviceOf } from "./containers.ts";
import { inspectProject } from "./docker.ts";
import { explainFailure, type FailureContext, lookTimeoutMs } from "./explain.ts";
import type { Guest } from "./guest.ts";
import { warmHttp } from "./http.ts";
import { settle } from "./settle.ts";
import { NotUp, waitUntilUp } from "./wait-until-up.ts";
import { describeWarmup, type Warmup } from "./warmup.ts";

export type PreheatEvent =
  | { phase: "up" | "warm"; state: "started" | "progress" | "done"; fraction: number; detail: string }
  | { phase: "log"; source: string; line: string };

export interface PreheatOptions {
  guest: Guest;
  /** Compose's name for the project. */
  project: string;
  /** docker-compose in the guest with all that it needs to find the project; a verb is added. */
  compose: string[];
  /** The containers were started already, by the guest itself at its boot. Default: false. */
  started?: boolean;
  warmup: readonly Warmup[];
  /** `upMs`: until docker-compose has created and started everything; `healthyMs`: from then to healthy. */
  timeouts: { upMs: number; healthyMs: number };
  signal: AbortSignal;
  onEvent: (event: PreheatEvent) => void;
  /** The guest's console so far, where the kernel says that it ran out of memory. */
  console: () => Promise<string>;
  /** Keeps logs for later, and says where. */
  keepLogs?: (logs: Record<string, string>) => Promise<string>;
}

export interface Preheated {
  services: string[];
  upMs: number;
  healthyMs: number;
  warmMs: number;
}

/**
 * @throws SporeletError `guest_failed` with the tail of the log that explains it; `resource_exhausted` when
 *   the guest ran out of memory or disk
 */
export async function preheat(options: PreheatOptions): Promise<Preheated> {
  const { guest, project, signal, onEvent } = options;
  const context: FailureContext = { ...options, sinceMs: Date.now() };
  const start = performance.now();
  onEvent({ phase: "up", state: "started", fraction: -1, detail: "" });
  if (options.started !== true) await composeUp(options, context);
  const up = performance.now();

  const healthyLimit = AbortSignal.timeout(options.timeouts.healthyMs);
  let containers: InspectedContainer[];
  try {
    containers = await waitUntilUp(guest, project, {
      // The guest's clock was set from the host's; a second for what lies between them.
      sinceMs: context.sinceMs - 1000,
      signal: AbortSignal.any([signal, healthyLimit]),
      onProgress: (fraction, detail) => onEvent({ phase: "up", state: "progress", fraction, detail }),
    });
  } catch (error) {
    throw await notUp(error, context, healthyLimit, "healthy");
  }
  if (containers.length === 0)
    throw await explainFailure(context, { reason: "docker-compose started no container" });
  const services = [...new Set(containers.map(serviceOf))].sort();
  onEvent({ phase: "up", state: "done", fraction: 1, detail: services.join(", ") });
  const healthy = performance.now();

  await warmUp(options, context);
  try {
    // A warm-up may have been too much for a container, or one may have lived just long enough.
    const onWait = () =>
      onEvent({ phase: "warm", state: "progress", fraction: 1, detail: "letting a healthcheck pass" });
    await settle(guest, project, { signal, onWait });
  } catch (error) {
    throw error instanceof NotUp ? await explainFailure(context, fromVerdict(error.verdict)) : error;
  }
  const end = performance.now();
  onEvent({ phase: "warm", state: "done", fraction: 1, detail: "" });
  return { services, upMs: up - start, healthyMs: healthy - up, warmMs: end - healthy };
}

async function composeUp(options: PreheatOptions, context: FailureContext): Promise<void> {
  const limit = AbortSignal.timeout(options.timeouts.upMs);
  const signal = AbortSignal.any([options.signal, limit]);
  try {
    const { code, stderr } = await options.guest.exec(
      [...options.compose, "up", "-d", "--no-build", "--remove-orphans"],
      {
        signal,
        onLine: (_, line) => {
          options.onEvent({ phase: "log", source: "compose", line });
          options.onEvent({ phase: "up", state: "progress", fraction: -1, detail: line });
        },
      },
    );
    if (code === 0) return;
    const verdict = judge(
      await inspectProject(options.guest, options.project, options.signal).catch(() => []),
    );
    // docker-compose names a container that kept another from starting; that one has the better story.
    const culprit = verdict.failed ?? verdict.waiting.find(({ why }) => why === "unhealthy");
    throw await explainFailure(context, {
      reason: culprit === undefined ? `docker-compose up exited with code ${code}` : say(culprit),
      container: culprit?.container,
      output: stderr,
    });
  } catch (error) {
    if (error instanceof SporeletError && error.code === "guest_failed" && !limit.aborted) throw error;
    throw await notUp(error, context, limit, "started");
  }
}

/** What to throw when containers did not come up, or not in time. */
async function notUp(
  error: unknown,
  context: FailureContext,
  limit: AbortSignal,
  wanted: string,
): Promise<unknown> {
  if (error instanceof NotUp) return explainFailure(context, fromVerdict(error.verdict));
  if (context.signal.aborted || !limit.aborted) return error;
  // A guest that is short of something takes its time to answer, too.
  const look = AbortSignal.any([context.signal, AbortSignal.timeout(lookTimeoutMs)]);
  const verdict = judge(await inspectProject(context.guest, context.project, look).catch(() => []));
  const seconds = (wanted === "healthy" ? context.timeouts.healthyMs : context.timeouts.upMs) / 1000;
  const [slow] = verdict.waiting;
  const who = slow === undefined ? "docker-compose up" : `the service ${serviceOf(slow.container)}`;
  const became = slow === undefined ? "was not done" : `did not become ${wanted}`;
  return explainFailure(context, {
    reason: `${who} ${became} within ${seconds} s${slow === undefined ? "" : ` (${slow.why})`}`,
    container: slow?.container,
    hint: `if it only needs longer: timeouts: { ${wanted === "healthy" ? "healthy" : "up"}: ${seconds * 2}s } in sporelet.yaml`,
  });
}

function fromVerdict({ failed, waiting }: ReturnType<typeof judge>) {
  const one = failed ?? waiting[0];
  return { reason: one === undefined ? "its containers are gone" : say(one), container: one?.container };
}

function say({ container, why }: { container: InspectedContainer; why: string }): string {
  return `the service ${serviceOf(container)} ${/^(exited|keeps|was|is) /.test(why) ? why : `is ${why}`}`;
}

async function warmUp(options: PreheatOptions, context: FailureContext): Promise<void> {
  const { guest, warmup, onEvent } = options;
  onEvent({ phase: "warm", state: "started", fraction: 0, detail: "" });
  for (const [index, one] of warmup.entries()) {
    const name = describeWarmup(one);
    const limit = AbortSignal.timeout(one.timeoutMs);
    const signal = AbortSignal.any([options.signal, limit]);
    const progress = (done: number) => {
      const fraction = (index + done / one.times) / warmup.length;
      onEvent({ phase: "warm", state: "progress", fraction, detail: `${name} (${done} of ${one.times})` });
    };
    let output = "";
    try {
      if (one.kind === "http") await warmHttp(guest, one, signal, progress);
      else {
        const argv =
          one.service === undefined ? one.argv : [...options.compose, "exec", "-T", one.service, ...one.argv];
        for (let done = 0; done < one.times; progress(++done)) {
          output = "";
          const { code } = await guest.exec(argv, {
            signal,
            onLine: (_, line) => {
              output += `${line}\n`;
              onEvent({ phase: "log", source: "warm-up", line });
            },
          });
          if (code !== 0) throw new Error(`exited with code ${code}`);
        }
      }
    } catch (error) {
      if (options.signal.aborted) throw error;
      const message = error instanceof Error ? error.message : String(error);
      const [what = "", ...more] = message.split("\n");
      const late = limit.aborted ? `was not done within ${one.timeoutMs / 1000} s` : undefined;
      throw await explainFailure(context, {
        reason: `the warm-up "${name}" ${late ?? what}`,
        output: output || more.join("\n") || (late === undefined ? "" : message),
        isWarmup: true,
      });
    }
  }
}
