/**
 * `make two-nodes`: what one node builds, another runs; see README.md in this directory. It runs the commands
 * that a person would, and checks what they print.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { sporeletHome } from "@sporelet/api";
import { startDockerRegistry } from "@sporelet/oci/testing";
import { visit } from "../hello-compose/http.ts";

interface Machine {
  name: string;
  ports: { host: number }[];
  readyMs: number;
}
interface Pushed {
  reference: string;
  sentBytes: number;
  reusedBytes: number;
}

const here = dirname(fileURLToPath(import.meta.url));
const project = join(here, "../hello-compose");
const program = join(here, "../../dist/sporectl");
const say = (text: string) => process.stderr.write(`${text}\n`);
const lines: [string, string][] = [];

await using cleanUp = new AsyncDisposableStack();
const nodeA = sporeletHome();
const nodeB = await mkdtemp(join(tmpdir(), "sporelet-node-b-"));
cleanUp.defer(() => rm(nodeB, { recursive: true, force: true }));
cleanUp.defer(() => sporectl(nodeB, ["node", "stop", "--machines"]).then(() => {}));
const repository = process.env.REGISTRY ?? `${await ownRegistry()}/two-nodes`;
const base = `${repository}/hello:v1`;
const child = `${repository}/hello:visited`;

say("1. Node A builds a machine and pushes it");
await sporectl(nodeA, ["build", project, "--tag", "hello"]);
const first = await json<Pushed>(nodeA, ["push", "hello", base]);
lines.push(["push of the whole machine", megabytes(first.sentBytes)]);

say("\n2. Node B runs it from the registry; nothing of it is there");
const begun = performance.now();
const [remote] = await json<Machine[]>(nodeB, ["run", base, "--name", "from-a", "-p", "8080"]);
await visit(port(remote), AbortSignal.timeout(300_000));
lines.push(["first response on node B, fetched lazily", seconds(performance.now() - begun)]);
await sporectl(nodeB, ["rm", "--force", "from-a"]);

say("\n3. Node A lets a clone count visits, freezes it as a child, and pushes what changed");
const name = `two-nodes-${process.pid}`;
const [local] = await json<Machine[]>(nodeA, ["run", "hello", "--name", name, "-p", "8080"]);
cleanUp.defer(() => sporectl(nodeA, ["rm", "--force", name]).then(() => {}));
let visits = 0;
for (let i = 0; i < 7; i++) visits = await visit(port(local), AbortSignal.timeout(60_000));
await sporectl(nodeA, ["snapshot", "diff", name, "--tag", child, "--force"]);
await sporectl(nodeA, ["snapshot", "history", child]);
const second = await json<Pushed>(nodeA, ["push", child]);
lines.push([
  "push of the child",
  `${megabytes(second.sentBytes)} (${megabytes(second.reusedBytes)} were there)`,
]);

say("\n4. Node B pulls the child and goes on counting");
await sporectl(nodeB, ["pull", base]);
await sporectl(nodeB, ["pull", child]);
const [heir] = await json<Machine[]>(nodeB, ["run", child, "--name", "heir", "-p", "8080"]);
const next = await visit(port(heir), AbortSignal.timeout(60_000));
if (next !== visits + 1) throw new Error(`node B counted ${next} after node A's ${visits}`);
lines.push(["visits counted by node A's clone, then by node B's", `${visits}, then ${next}`]);
lines.push(["resume of the child on node B", `${heir?.readyMs.toFixed(0)} ms`]);
await sporectl(nodeB, ["cache", "du"]);

const width = Math.max(...lines.map(([what]) => what.length)) + 2;
process.stdout.write(`\n${lines.map(([what, figure]) => what.padEnd(width) + figure).join("\n")}\n`);

/** A registry for this run alone, on loopback. */
async function ownRegistry(): Promise<string> {
  const registry = await startDockerRegistry();
  cleanUp.use(registry);
  return registry.address;
}

function sporectl(home: string, args: string[], capture = false): Promise<string> {
  say(`   ${home === nodeA ? "A" : "B"} $ sporectl ${args.join(" ")}`);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, SPORELET_HOME: home },
      stdio: ["ignore", capture ? "pipe" : "inherit", "inherit"],
    });
    let output = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`sporectl ${args[0]} ended with exit code ${code}`));
    });
  });
}

async function json<T>(home: string, args: string[]): Promise<T> {
  return JSON.parse(await sporectl(home, [...args, "--json"], true)) as T;
}

function port(machine: Machine | undefined): number {
  const host = machine?.ports[0]?.host;
  if (host === undefined) throw new Error("the machine has no published port");
  return host;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
