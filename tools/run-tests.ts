/**
 * Runs everything that `make test` stands for (the checks, the Go tests, the TypeScript and end-to-end tests)
 * and ends with one line that counts them all. Arguments name the suites to run: check, go, packages, e2e.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { relative } from "node:path";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** What failed, and the first line of why: repeated at the end, where the end is all that one sees. */
const failures: string[] = [];

const reportDirectory = "out/test";
const suites: Record<string, () => Promise<Count>> = {
  check,
  go,
  packages: () => vitest("packages"),
  e2e: () => vitest("e2e"),
};

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(suites);
await mkdir(reportDirectory, { recursive: true });
const total: Count = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
for (const name of chosen) {
  const suite = suites[name];
  if (suite === undefined) throw new Error(`no suite ${name}; there are ${Object.keys(suites).join(", ")}`);
  process.stdout.write(`\n=== ${name}\n`);
  const started = performance.now();
  const count = await suite();
  const seconds = Math.round((performance.now() - started) / 1000);
  lines.push(
    `${name}: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped in ${seconds} s`,
  );
  for (const key of ["passed", "failed", "skipped"] as const) total[key] += count[key];
}
if (failures.length > 0) process.stdout.write(`\nfailed:\n${failures.map((line) => `  ${line}\n`).join("")}`);
process.stdout.write(`\n${lines.join("\n")}\n`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;

/** Each check counts as one test. */
async function check(): Promise<Count> {
  const manifest = JSON.parse(await readFile("package.json", "utf8")) as { scripts: Record<string, string> };
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const script of Object.keys(manifest.scripts).filter((name) => name.startsWith("check:"))) {
    const { code } = await run(["pnpm", "--silent", "run", script]);
    process.stdout.write(`${code === 0 ? "ok" : "FAILED"} ${script}\n`);
    if (code === 0) count.passed++;
    else {
      count.failed++;
      failures.push(script);
    }
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
  const { code, stdout } = await run(["go", "test", "-json", "-count=1", "./..."], {
    cwd: "guest/agent",
    capture: true,
  });
  for (const line of stdout.split("\n")) {
    if (!line.startsWith("{")) continue;
    const event = JSON.parse(line) as GoEvent;
    const key = `${event.Package ?? ""} ${event.Test ?? ""}`;
    if (event.Action === "output") output.set(key, (output.get(key) ?? "") + (event.Output ?? ""));
    if (event.Test === undefined && event.Action !== "fail") continue;
    if (event.Action === "pass") count.passed++;
    if (event.Action === "skip") {
      count.skipped++;
      process.stdout.write(`skipped ${key}: ${output.get(key)?.trim() ?? ""}\n`);
    }
    if (event.Action === "fail") {
      // A package that fails without a failed test did not build.
      if (event.Test !== undefined || count.failed === 0) {
        count.failed++;
        failures.push(`go: ${key.trim()}`);
      }
      process.stdout.write(`FAILED ${key}\n${output.get(key) ?? ""}`);
    }
  }
  if (code !== 0 && count.failed === 0) {
    count.failed++;
    process.stdout.write(
      stdout
        .split("\n")
        .filter((line) => !line.startsWith("{"))
        .join("\n"),
    );
  }
  process.stdout.write(`go test: ${count.passed} passed\n`);
  return count;
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
  await rm(file, { force: true });
  const { code } = await run([
    "vitest",
    "run",
    "--project",
    project,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${file}`,
  ]);
  const report = await readFile(file, "utf8")
    .then((text) => JSON.parse(text) as VitestReport)
    .catch(() => undefined);
  if (report === undefined) {
    failures.push(`${project}: vitest left no report`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  // A file that could not be loaded has no assertions, yet it failed.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((a) => a.status === "failed"),
  );
  for (const file of broken) failures.push(`${place(file.name)}: ${firstLine(file.message)}`);
  for (const file of report.testResults)
    for (const test of file.assertionResults)
      if (test.status === "failed")
        failures.push(`${place(file.name)} > ${test.fullName}: ${firstLine(test.failureMessages?.[0])}`);
  const failed = report.numFailedTests + broken.length;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

function place(file: string): string {
  return relative(process.cwd(), file);
}

function firstLine(message: string | undefined): string {
  return message?.trim().split("\n")[0] ?? "";
}

function run(
  argv: string[],
  options: { cwd?: string; capture?: boolean } = {},
): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve, reject) => {
    const [file = "", ...args] = argv;
    const child = spawn(file, args, {
      cwd: options.cwd,
      stdio: ["ignore", options.capture ? "pipe" : "inherit", "inherit"],
    });
    let stdout = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout }));
  });
}
