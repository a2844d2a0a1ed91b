/**
 * `make bench`: the suite. Each line is measured next to its floor (the bare VMM, driven by code that shares nothing
 * with Sporelet but the snapshot's files) and next to what people would use instead, by turns in one run, because
 * times on a shared machine drift.
 *
 *     node bench/bench.ts [PART...]
 *
 * Writes out/bench.json, out/bench.md and a plot for each line that has samples, and ends with 1 when a line does not
 * hold. BENCH_RUNS sets the repetitions of everything, BENCH_SNAPSHOT another snapshot than hello.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { measureBurst } from "./burst.ts";
import { measureDensity, measureSpored } from "./density.ts";
import { measureTransfers } from "./distribution.ts";
import { measureForks } from "./fork.ts";
import { openSuite, type Part } from "./parts.ts";
import { plot } from "./plot.ts";
import { type Line, line, markdown, samplesOf } from "./report.ts";
import { measureResumes } from "./resumes.ts";
import { measureSleepers, measureSuspensions } from "./suspend.ts";

const parts: Record<string, Part> = {
  resumes: measureResumes,
  burst: measureBurst,
  fork: measureForks,
  suspend: measureSuspensions,
  density: measureDensity,
  spored: measureSpored,
  sleepers: measureSleepers,
  transfers: measureTransfers,
};

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in parts));
if (unknown.length > 0) {
  process.stderr.write(`no such part: ${unknown.join(", ")}; there are ${Object.keys(parts).join(", ")}\n`);
  process.exit(2);
}
const suite = await openSuite();
const lines: Line[] = [];
const failed: string[] = [];
const suiteBegunAt = performance.now();
for (const [name, measure] of Object.entries(parts)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const begunAt = performance.now();
  try {
    const measured = await measure(suite);
    lines.push(...measured);
    const tookSeconds = Math.round((performance.now() - begunAt) / 1000);
    process.stderr.write(`${name}: ${measured.length} lines in ${tookSeconds} s\n`);
  } catch (error) {
    // What else is measured is worth having.
    failed.push(name);
    process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : error}\n`);
  }
  // The next part is not to be measured with what this one has left in spored's memory.
  await suite.connected((node) => node.shutdownNode({ stopMachines: false }));
}
if (chosen.length === 0) {
  const tookMinutes = (performance.now() - suiteBegunAt) / 60_000;
  lines.push(line({ name: "the suite itself", unit: "min", ours: [tookMinutes], limit: { median: 30 } }));
}
const out = join(import.meta.dirname, "../out");
const plots = join(out, "bench");
await rm(plots, { recursive: true, force: true });
await mkdir(plots, { recursive: true });
await writeFile(join(out, "bench.json"), `${JSON.stringify(lines, undefined, 2)}\n`);
const drawn: string[] = [];
for (const [i, entry] of lines.entries()) {
  const samples = samplesOf(entry);
  if (samples === undefined || samples.ours.length < 2) continue;
  const file = `${String(i + 1).padStart(2, "0")}.svg`;
  await writeFile(join(plots, file), plot(entry, samples));
  drawn.push(`![${entry.name}](bench/${file})`);
}
await writeFile(join(out, "bench.md"), `${markdown(lines)}\n${drawn.join("\n\n")}\n`);
process.stdout.write(markdown(lines));
if (failed.length > 0) process.stdout.write(`not measured: ${failed.join(", ")}\n`);
process.exitCode = failed.length === 0 && lines.every(({ holds }) => holds) ? 0 : 1;
