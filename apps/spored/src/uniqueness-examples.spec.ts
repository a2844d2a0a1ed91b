import path from "node:path";
import type { node as api } from "@sporelet/api";
import { runProcess } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hostProgram, librariesOf } from "./testing/hosts-programs.ts";
import { buildBase, forked, run, shell, startTestNode, type TestNode } from "./testing/node.ts";
import { copyIn, expectQuiet, seed } from "./testing/sources.ts";

const isRoot = process.getuid?.() === 0;
const examples = path.join(import.meta.dirname, "../../../examples/uniqueness");
const memoryBytes = 512 * 2 ** 20;
/** Where the guest's JVM writes what it drew. */
const drawn = "/drawn";
const keys = "/etc/ssh";

it("covers the examples of uniqueness that need more than Layer 0", (ctx) => {
  if (!isRoot) ctx.skip("clones with networks of their own need root");
});

describe.runIf(isRoot)("clones of a guest with a program of the host's", () => {
  let node: TestNode;

  beforeAll(async () => {
    node = await startTestNode();
    await seed(node, await buildBase(node.client), { memoryBytes });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  /** Boots the seed, prepares it, and freezes it as `tag`. */
  async function freeze(tag: string, prepare: (machine: string) => Promise<void>): Promise<void> {
    for await (const { event } of node.client.boot({ snapshot: "seed", name: tag })) {
      if (event.case === "ready") await prepare(event.value.id);
    }
    await node.client.createSnapshot({ machine: tag, tag });
    await node.client.removeMachine({ machine: tag, force: true });
  }

  const remove = (machines: readonly api.Machine[]) =>
    Promise.all(machines.map(({ id }) => node.client.removeMachine({ machine: id, force: true })));

  /** What a machine's JVM drew in its generation, by source, once it was told of that. */
  async function javaValues(machine: api.Machine): Promise<Map<string, string[]>> {
    const file = `${drawn}/$(cat /run/sporelet/generation-id)`;
    const { stdout } = await shell(
      node.client,
      machine.id,
      `until [ "$(grep -c ^told ${file})" -ge 64 ]; do sleep 0.2; done; cat ${file}`,
    );
    const values = new Map<string, string[]>();
    for (const line of stdout.trim().split("\n")) {
      const [source = "", value = ""] = line.split(" ");
      values.set(source, [...(values.get(source) ?? []), value]);
    }
    return values;
  }

  it("draw no value twice from what Java keeps, by SporeletGeneration.java", async (ctx) => {
    const missing = await Promise.all(["javac", "jlink"].map((name) => hostProgram(name)));
    if (missing.includes(undefined)) ctx.skip("the host has no JDK with jlink");
    await using directory = await temporaryDirectory();
    const runtime = path.join(directory.path, "jvm");
    await runProcess(
      ["jlink", "--add-modules", "java.base", "--strip-debug", "--no-man-pages", "--output", runtime],
      {
        operation: "make a small JVM",
      },
    );
    const sources = [
      path.join(examples, "SporeletGeneration.java"),
      path.join(import.meta.dirname, "testing/Draws.java"),
    ];
    await runProcess(["javac", "-d", path.join(directory.path, "classes"), ...sources], {
      operation: "compile the example",
    });
    const libraries = await librariesOf(
      ["bin/java", "lib/server/libjvm.so"].map((file) => path.join(runtime, file)),
    );
    await freeze("java", async (machine) => {
      await copyIn(node.client, machine, [
        directory.path,
        ...libraries.filter((file) => !file.startsWith(runtime)),
      ]);
      const classes = path.join(directory.path, "classes");
      const command = `${runtime}/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx32m -cp ${classes} Draws ${drawn}`;
      await expectQuiet(node.client, machine, `mkdir ${drawn}; (${command} >/java.log 2>&1 &)`);
      const wait = `for i in $(seq 300); do [ "$(cat ${drawn}/* 2>/dev/null | grep -c .)" -gt 9 ] && exit; sleep 0.2; done; cat /java.log; exit 1`;
      await expectQuiet(node.client, machine, wait);
    });

    const machines: api.Machine[] = [];
    try {
      expect(await node.client.keepSlots({ snapshot: "java", slots: 3 })).toMatchObject({
        ready: 3,
        problem: "",
      });
      machines.push(...(await run(node.client, { snapshot: "java", count: 3 })));
      expect(machines.filter(({ timings }) => timings?.fromPool)).toHaveLength(3);
      await node.client.keepSlots({ snapshot: "java", slots: 0 });
      machines.push(...(await run(node.client, { snapshot: "java", count: 2 })));
      machines.push(...(await forked(node.client, { machine: machines[0]?.id ?? "", count: 2 })).machines);
      const seen = new Map<string, string[]>();
      for (const machine of machines) {
        for (const [source, values] of await javaValues(machine))
          seen.set(source, [...(seen.get(source) ?? []), ...values]);
      }
      expect([...seen.keys()].sort()).toEqual(["asked", "helpless", "told"]);
      for (const source of ["asked", "told"]) {
        const values = seen.get(source) ?? [];
        expect(values.length, source).toBeGreaterThanOrEqual(machines.length * 64);
        expect(new Set(values).size, source).toBe(values.length);
      }
      // A generator that nobody reseeds. Were it not seen to repeat itself, the others would prove nothing.
      const helpless = seen.get("helpless") ?? [];
      expect(new Set(helpless).size).toBeLessThan(helpless.length / 2);
    } finally {
      await remove(machines);
    }
  });

  it("have SSH host keys of their own of all kinds, by hooks/60-ssh-host-keys", async (ctx) => {
    const keygen = await hostProgram("ssh-keygen");
    if (keygen === undefined) return ctx.skip("the host has no ssh-keygen");
    const hook = path.join(examples, "hooks/60-ssh-host-keys");
    const fingerprints = async (machine: string) => {
      const list = `for kind in rsa ecdsa ed25519; do ssh-keygen -lf ${keys}/ssh_host_"$kind"_key.pub; done`;
      const { stdout, code } = await shell(node.client, machine, list);
      expect(code).toBe(0);
      return stdout.match(/SHA256:\S+/g) ?? [];
    };
    const all: string[] = [];
    await freeze("keys", async (machine) => {
      await copyIn(node.client, machine, [hook, ...keygen.files]);
      const users = "grep -q ^root: /etc/passwd || echo root:x:0:0::/:/bin/sh >>/etc/passwd";
      const place = "mkdir -p /etc/sporelet/hooks/after-resume.d";
      await expectQuiet(
        node.client,
        machine,
        `${users}; ${place} ${keys}; cp ${hook} /etc/sporelet/hooks/after-resume.d/; ssh-keygen -A >/dev/null`,
      );
      all.push(...(await fingerprints(machine)));
    });
    const machines = await run(node.client, { snapshot: "keys", count: 2 });
    try {
      for (const { id } of machines) all.push(...(await fingerprints(id)));
    } finally {
      await remove(machines);
    }
    expect(all).toHaveLength(9);
    expect(new Set(all).size).toBe(9);
  });
});
