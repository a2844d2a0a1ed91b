/**
 * Runs everything that `make test` stands for (the checks, the Go tests, the TypeScript and end-to-end tests)
 * and ends with one line that counts them all, whatever happened before. Arguments name the suites to run: check,
 * go, packages, e2e.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { relative, resolve } from "node:path";
import { type SkippedTest, skippedFileVariable } from "./skip-reporter.ts";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** What failed, and the first line of why: repeated at the end, where the end is all that one sees. */
const failures: string[] = [];
/** What did not run, with the reason where it gave one. */
const skips: string[] = [];

const reportDirectory = "out/test";
const noReason = "it does not say why";
const suites: Record<string, () => Promise<Count>> = {
  check,
  go,
  packages: () => vitest("packages"),
  e2e: () => vitest("e2e"),
};

/** Why the rest is not run: the name of a signal. */
const ended = new AbortController();
for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => ended.abort(name));
/** How long a suite that was told to end may take for it. */
const endTimeoutMs = 5_000;

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(suites);
const total: Count = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
for (const name of chosen.filter((name) => suites[name] === undefined))
  fail(total, `no suite is called ${name}; there are ${Object.keys(suites).join(", ")}`);
for (const name of total.failed === 0 ? chosen : []) {
  if (ended.signal.aborted) break;
  process.stdout.write(`\n=== ${name}\n`);
  const started = performance.now();
  const count = await counted(name);
  const seconds = Math.round((performance.now() - started) / 1000);
  lines.push(
    `${name}: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped in ${seconds} s`,
  );
  for (const key of ["passed", "failed", "skipped"] as const) total[key] += count[key];
}
if (ended.signal.aborted) fail(total, `ended by ${ended.signal.reason} before all was done`);
if (skips.length > 0) process.stdout.write(`\nskipped:\n${skips.map((line) => `  ${line}\n`).join("")}`);
if (failures.length > 0) process.stdout.write(`\nfailed:\n${failures.map((line) => `  ${line}\n`).join("")}`);
process.stdout.write(`\n${lines.join("\n")}\n`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;

/** Counts a failure that is no test's own. */
function fail(count: Count, reason: string): void {
  count.failed++;
  failures.push(reason);
}

/** What a suite counts. One that cannot be run, or has nothing to say, has failed once. */
async function counted(name: string): Promise<Count> {
  const none: Count = { passed: 0, failed: 0, skipped: 0 };
  try {
    await mkdir(reportDirectory, { recursive: true });
    const count = (await suites[name]?.()) ?? none;
    if (count.passed + count.failed + count.skipped === 0) fail(count, `${name}: it reported nothing`);
    return count;
  } catch (error) {
    fail(none, `${name}: ${firstLine(String(error))}`);
    return none;
  }
}

/** Each check counts as one test. */
async function check(): Promise<Count> {
  const manifest = JSON.parse(await readFile("package.json", "utf8")) as { scripts: Record<string, string> };
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const script of Object.keys(manifest.scripts).filter((name) => name.startsWith("check:"))) {
    if (ended.signal.aborted) break;
    const { code } = await run(["pnpm", "--silent", "run", script]);
    process.stdout.write(`${code === 0 ? "ok" : "FAILED"} ${script}\n`);
    if (code === 0) count.passed++;
    else fail(count, script);
  }
  return count;
}

interface GoEvent {
  Action: string;
  Package?: string;
  Test?: string;
  Output?: string;
}

async function go(): Promise<Count> {
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  const output = new Map<string, string>();
  /** Packages of which a test failed. */
  const explained = new Set<string>();
  const { code, stdout } = await run(["go", "test", "-json", "-count=1", "./..."], {
    cwd: "guest/agent",
    capture: true,
  });
  const others: string[] = [];
  for (const line of stdout.split("\n")) {
    if (!line.startsWith("{")) {
      if (line !== "") others.push(line);
      continue;
    }
    const event = JSON.parse(line) as GoEvent;
    const { Action: action, Package: name = "", Test: test } = event;
    const key = `${name} ${test ?? ""}`;
    // Of a build it is told by another name than its package's.
    if (action === "build-output") others.push((event.Output ?? "").trimEnd());
    if (action === "output") output.set(key, (output.get(key) ?? "") + (event.Output ?? ""));
    if (test === undefined && action !== "fail") continue;
    if (action === "pass") count.passed++;
    if (action === "skip") {
      count.skipped++;
      skips.push(`go: ${key.trim()}: ${skipReason(output.get(key))}`);
    }
    if (action === "fail") {
      // A package that fails without a failed test did not build, or ended in the middle.
      if (test !== undefined || !explained.has(name)) fail(count, `go: ${key.trim()}`);
      explained.add(name);
      process.stdout.write(`FAILED ${key}\n${output.get(key) ?? ""}`);
    }
  }
  if (others.length > 0) process.stdout.write(`${others.join("\n")}\n`);
  if (code !== 0 && count.failed === 0) fail(count, `go: it ended with ${code}: ${others[0] ?? "no output"}`);
  process.stdout.write(`go test: ${count.passed} passed\n`);
  return count;
}

/** What a Go test said when it skipped itself: the line "    file_test.go:12: why". */
function skipReason(output = ""): string {
  return /^ +\S+\.go:\d+: (.+)$/m.exec(output)?.[1] ?? noReason;
}

interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: {
    status: string;
    name: string;
    message?: string;
    assertionResults: { status: string; fullName: string; failureMessages?: string[] | null }[];
  }[];
}

async function vitest(project: string): Promise<Count> {
  const file = `${reportDirectory}/${project}.json`;
  const skippedFile = `${reportDirectory}/${project}-skipped.json`;
  for (const old of [file, skippedFile]) await rm(old, { force: true });
  const { code } = await run(
    [
      "vitest",
      "run",
      "--project",
      project,
      "--reporter=default",
      "--reporter=json",
      "--reporter=./tools/skip-reporter.ts",
      `--outputFile.json=${file}`,
    ],
    // The spored that was built, as users have it; it also starts in 0.6 of the time that its source takes.
    { env: { [skippedFileVariable]: skippedFile, SPORELET_SPORED: resolve("dist/spored") } },
  );
  const report = await readFile(file, "utf8")
    .then((text) => JSON.parse(text) as VitestReport)
    .catch(() => undefined);
  if (report === undefined) throw new Error(`vitest ended with ${code} and left no report`);
  // A file that could not be loaded has no assertions, yet it failed.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((a) => a.status === "failed"),
  );
  for (const file of broken) failures.push(`${place(file.name)}: ${firstLine(file.message)}`);
  for (const file of report.testResults)
    for (const test of file.assertionResults)
      if (test.status === "failed")
        failures.push(`${place(file.name)} > ${test.fullName}: ${firstLine(test.failureMessages?.[0])}`);
  skips.push(...(await readSkipped(skippedFile)));
  const count: Count = {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
  // An error outside of the tests fails none of them.
  if (code !== 0 && count.failed === 0)
    fail(count, `${project}: vitest ended with ${code}, see its errors above`);
  return count;
}

/** One line for each test that says why, and one for all the others of a file: they are a group that says it once. */
async function readSkipped(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return [`what vitest skipped is not known: it left no ${file}`];
  const skipped = JSON.parse(text) as SkippedTest[];
  const explained = skipped.flatMap(({ file, name, note }) =>
    note === undefined ? [] : [`${place(file)} > ${name}: ${firstLine(note)}`],
  );
  const others = Map.groupBy(
    skipped.filter(({ note }) => note === undefined),
    (test) => place(test.file),
  );
  return [
    ...explained,
    ...[...others].map(([file, tests]) => `${file} > ${tests.length} more, without a reason of their own`),
  ];
}

function place(file: string): string {
  return relative(process.cwd(), file);
}

function firstLine(message: string | undefined): string {
  return message?.trim().split("\n")[0] ?? "";
}

function run(
  argv: string[],
  options: { cwd?: string; capture?: boolean; env?: Record<string, string> } = {},
): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve, reject) => {
    const [file = "", ...args] = argv;
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", options.capture ? "pipe" : "inherit", "inherit"],
    });
    let killing: NodeJS.Timeout | undefined;
    const end = () => {
      child.kill("SIGTERM");
      killing = setTimeout(() => child.kill("SIGKILL"), endTimeoutMs);
    };
    if (ended.signal.aborted) end();
    else ended.signal.addEventListener("abort", end, { once: true });
    let stdout = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(killing);
      ended.signal.removeEventListener("abort", end);
      resolve({ code: code ?? 1, stdout });
    });
  });
}
