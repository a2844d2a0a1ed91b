/**
 * `make demo`: freezes the Compose project in this directory inside a microVM, boots the same machine cold once
 * for comparison, resumes three clones of it that run side by side, shows that they are independent, and prints
 * what it all took. The figures also go to out/demo.json.
 *
 * It runs the commands that a person would; only the timed resumes go through spored's API directly, so that the
 * clock stops when a clone is ready, not when a command line program has ended.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cloneCount, type Figures, table } from "./figures.ts";
import { firstResponse, visit } from "./http.ts";
import { say, sporectl, sporectlJson, timedNode } from "./sporectl.ts";

interface MachineJson {
  id: string;
  name: string;
  ports: { host: number; guest: number }[];
}

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../../out");
const tag = "hello";
const started: string[] = [];

const nodeWasRunning = (await sporectl(["node", "status"], { quiet: true, allowFailure: true })).code === 0;
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
try {
  await demo(interrupted.signal);
} catch (error) {
  if (!interrupted.signal.aborted) throw error;
  say("interrupted");
  process.exitCode = 130;
} finally {
  if (started.length > 0) await sporectl(["rm", "--force", ...started], { allowFailure: true });
  if (!nodeWasRunning) await sporectl(["node", "stop"], { quiet: true, allowFailure: true });
}

async function demo(signal: AbortSignal): Promise<void> {
  say("1. What this host can do");
  await sporectl(["doctor"], { signal, allowFailure: true });

  say("\n2. Build the project into a frozen machine (cached by content: the second time is quick)");
  await sporectl(["build", here, "--tag", tag], { signal });

  say("\n3. The same machine started cold, for comparison");
  const { digest } = await sporectlJson<{ digest: string }>(["snapshot", "inspect", tag, "--json"], {
    signal,
    quiet: true,
  });
  const cold = (await knownColdBoot(digest)) ?? (await measureColdBoot(signal));

  say(`\n4. ${cloneCount} clones resumed, all running side by side`);
  const figures: Figures = { ...cold, snapshot: digest, resumes: [], ratio: 0, pssBytesPerClone: 0 };
  const clones: MachineJson[] = [];
  using node = await timedNode();
  for (let i = 1; i <= cloneCount; i++) {
    const resumeStart = performance.now();
    const clone = await node.resume({ snapshot: tag, name: name(`${i}`), guestPort: 8080 }, signal);
    await firstResponse(clone.hostPort, signal);
    const firstResponseMs = performance.now() - resumeStart;
    clones.push({ id: clone.id, name: clone.name, ports: [{ host: clone.hostPort, guest: 8080 }] });
    figures.resumes.push({ readyMs: clone.readyMs, firstResponseMs, stages: clone.stages });
    say(
      `   ${clone.name} ready after ${clone.readyMs.toFixed(0)} ms, answers on 127.0.0.1:${clone.hostPort}`,
    );
  }

  say("\n5. They are independent: each has its own counter and its own machine-id");
  const before = await Promise.all(clones.map((clone) => visit(port(clone), signal)));
  const machineIds: string[] = [];
  for (const [i, clone] of clones.entries()) {
    // Clone number i is visited i more times; were anything shared, the counts below would not come out.
    for (let extra = 0; extra < i; extra++) await visit(port(clone), signal);
    const count = (await visit(port(clone), signal)) - (before[i] ?? 0);
    const machineId = (
      await sporectl(["exec", clone.name, "cat", "/etc/machine-id"], { signal, quiet: true })
    ).stdout.trim();
    machineIds.push(machineId);
    say(`   ${clone.name}: ${count} more visits since the first look, machine-id ${machineId}`);
    if (count !== i + 1)
      throw new Error(`${clone.name} counted ${count} visits instead of ${i + 1}: the clones share state`);
  }
  if (new Set(machineIds).size !== clones.length) throw new Error("two clones have the same machine-id");

  figures.pssBytesPerClone = await node.medianPssBytes(
    clones.map((clone) => clone.id),
    signal,
  );
  const responses = figures.resumes.map((resume) => resume.firstResponseMs).sort((a, b) => a - b);
  figures.ratio = cold.coldBootMs / (responses[Math.floor(responses.length / 2)] ?? Number.NaN);
  await mkdir(out, { recursive: true });
  await writeFile(join(out, "demo.json"), `${JSON.stringify(figures, undefined, 2)}\n`);
  process.stdout.write(`\n${table(figures)}\n`);
  say("\nThe figures are in out/demo.json.");
}

interface ColdBoot {
  coldBootMs: number;
  coldBootAt: string;
}

/**
 * A cold boot takes a minute, so a further run takes the figure of the one that measured this very snapshot, and
 * says so. DEMO_COLD=1 measures again.
 */
async function knownColdBoot(digest: string): Promise<ColdBoot | undefined> {
  if (process.env.DEMO_COLD) return undefined;
  const text = await readFile(join(out, "demo.json"), "utf8").catch(() => "{}");
  const { snapshot, coldBootMs, coldBootAt } = JSON.parse(text) as Partial<Figures>;
  if (snapshot !== digest || coldBootMs === undefined || coldBootAt === undefined) return undefined;
  say(
    `   ${(coldBootMs / 1000).toFixed(1)} s, measured with this snapshot at ${coldBootAt} (again: DEMO_COLD=1 make demo)`,
  );
  return { coldBootMs, coldBootAt };
}

async function measureColdBoot(signal: AbortSignal): Promise<ColdBoot> {
  const start = performance.now();
  const boot = ["boot", tag, "--name", name("cold"), "--publish", "8080", "--json"];
  const [machine] = await sporectlJson<MachineJson[]>(boot, { signal });
  await firstResponse(port(machine), signal);
  const coldBootMs = performance.now() - start;
  say(`   first response after ${(coldBootMs / 1000).toFixed(1)} s`);
  await sporectl(["rm", "--force", name("cold")], { signal, quiet: true });
  started.pop();
  return { coldBootMs, coldBootAt: new Date().toISOString() };
}

/** Names this run's machines, so that it never touches one of yours; remembered for the end. */
function name(suffix: string): string {
  const machine = `demo-${process.pid}-${suffix}`;
  if (!started.includes(machine)) started.push(machine);
  return machine;
}

function port(machine: MachineJson | undefined): number {
  const mapping = machine?.ports[0];
  if (mapping === undefined) throw new Error("the machine has no published port");
  return mapping.host;
}
