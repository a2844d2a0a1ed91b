import { cp, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { afterAll, expect, it } from "vitest";
import { type Clone, clones } from "./support/hello.ts";
import { ok, sporectl, top } from "./support/sporectl.ts";

const tag = "restarting";

/** Two generators that keep what they drew: the one with the label is not to have it in common with other clones. */
const compose = `
services:
  restarted: { image: "hello-redis:1", container_name: restarted, labels: { sporelet.restart: "true" } }
  kept: { image: "hello-redis:1", container_name: kept }
`;
/** The image is the demo's, which is built once for all tests. */
const sporelet = `
machine: { cpus: 1, memory: 1GiB, disk: 4GiB }
images:
  - name: hello-redis:1
    packages: [redis-server]
    configure: false
    command: ["redis-server"]
    expose: [6379]
hooks: { after-resume: [hooks/50-restart-containers] }
timeouts: { hook: 60s }
`;

afterAll(async () => {
  await sporectl(["snapshot", "rm", "--force", tag]);
});

/** What a Redis draws once, when it starts. */
async function runId(clone: Clone, container: string): Promise<string> {
  const script = `docker exec ${container} redis-cli info server`;
  const [, id] = /^run_id:(\w{40})/m.exec(await ok(["exec", clone.name, "sh", "-c", script])) ?? [];
  if (id === undefined) throw new Error(`${container} of ${clone.name} has no run_id`);
  return id;
}

it("the hook restarts the containers with its label in every clone, and no others", async () => {
  await using directory = await temporaryDirectory();
  const hook = path.join(directory.path, "hooks/50-restart-containers");
  await mkdir(path.dirname(hook));
  await cp(path.join(top, "examples/uniqueness/hooks/50-restart-containers"), hook);
  await writeFile(path.join(directory.path, "compose.yaml"), compose);
  await writeFile(path.join(directory.path, "sporelet.yaml"), sporelet);
  await ok(["build", directory.path, "-t", tag], { timeoutMs: 1_200_000 });
  await using two = await clones(["-n", "2"], tag);
  const idsOf = (container: string) => Promise.all(two.list.map((clone) => runId(clone, container)));
  const restarted = await idsOf("restarted");
  const kept = await idsOf("kept");
  expect(new Set(restarted).size).toBe(2);
  // Were it not seen to be the same in both, the other would prove nothing.
  expect(new Set(kept).size).toBe(1);
  expect(restarted).not.toContain(kept[0]);
});
