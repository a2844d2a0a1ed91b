import { join } from "node:path";
import { expect, it } from "vitest";
import { buildHello, clones } from "./support/hello.ts";
import { ok, top } from "./support/sporectl.ts";

const hook = join(top, "examples/uniqueness/hooks/50-restart-containers");
const hooks = "/etc/sporelet/hooks/after-resume.d/";
const list = "docker inspect -f '{{.Name}} {{.State.StartedAt}} {{.State.Running}}' $(docker ps -q)";

it("hooks/50-restart-containers restarts the containers with its label in each clone, and no others", async () => {
  await buildHello();
  const tag = `restarting:${process.pid}`;
  await using origin = await clones();
  const { name } = origin.first;
  const started = async (machine: string) => {
    const lines = (await ok(["exec", machine, "--", "sh", "-c", list])).trim().split("\n");
    return new Map(
      lines.map((line) => {
        const [container = "", startedAt = "", running = ""] = line.split(" ");
        expect(running, container).toBe("true");
        return [container, startedAt] as const;
      }),
    );
  };
  const labelled = "--name keeps-a-generator --network none --label sporelet.restart=true";
  await ok(["exec", name, "--", "sh", "-c", `docker run -d ${labelled} hello-redis:1 && mkdir -p ${hooks}`]);
  await ok(["cp", hook, `${name}:${hooks}`]);
  const before = await started(name);
  expect(before.size).toBe(3);
  await ok(["snapshot", "create", name, "-t", tag]);
  try {
    await using two = await clones(["-n", "2"], tag);
    for (const clone of two.list) {
      const after = await started(clone.name);
      expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
      for (const [container, startedAt] of after) {
        if (container === "/keeps-a-generator") expect(startedAt).not.toBe(before.get(container));
        else expect(startedAt, container).toBe(before.get(container));
      }
    }
  } finally {
    await ok(["snapshot", "rm", tag]);
  }
});
