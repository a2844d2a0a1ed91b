import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildHello, type Clone, clones, hostPort, tag, visit } from "./support/hello.ts";
import { traces } from "./support/leftovers.ts";
import { ok, sharedHome, sporectl, sporectlJson } from "./support/sporectl.ts";

interface Fork {
  snapshot: string;
  pauseMs: number;
  machines: Clone[];
}

interface Snapshot {
  digest: string;
  parent: string;
  layer: number;
  memoryUsedBytes: number;
  memoryOwnBytes: number;
  diskUsedBytes: number;
  diskOwnBytes: number;
}

/**
 * Appends numbered lines to a file on the disk and to one in memory, for ever. All of a line follows from its
 * number, so that nothing in it can change unnoticed.
 */
const writer = `n=0
while :; do
  n=$((n + 1))
  line="$n $((n * n % 99991)) $((n * 7919 % 65521)) the rest of line $n"
  echo "$line" >>/var/tmp/journal && sync /var/tmp/journal
  echo "$line" >>/dev/shm/journal
done`;

/** Prints how many lines each of the files has by now, if all of them are right and none is missing. */
const checker = `for file in /var/tmp/journal /dev/shm/journal; do
  head -n $(wc -l <$file) $file | awk '
    $0 != NR " " NR * NR % 99991 " " NR * 7919 % 65521 " the rest of line " NR {
      print FILENAME ": line " NR ": " $0; bad = 1; exit 1
    }
    END { if (!bad) print NR }' || exit 1
done`;

describe("a clone of a Compose project that is forked", () => {
  let before: string[];

  beforeAll(async () => {
    await buildHello();
    before = await traces(sharedHome);
  });

  afterAll(async () => {
    expect(await traces(sharedHome)).toEqual(before);
  });

  /** Forks a machine; the children, and the instant that they began with, vanish at the end of the scope. */
  async function forkOf(machine: string, args: string[]): Promise<AsyncDisposable & Fork> {
    const fork = await sporectlJson<Fork>(["fork", machine, ...args]);
    return {
      ...fork,
      [Symbol.asyncDispose]: async () => {
        await sporectl(["rm", "-f", ...fork.machines.map(({ id }) => id)]);
        await ok(["snapshot", "rm", fork.snapshot]);
      },
    };
  }

  /** Lines that the writer had written, on disk and in memory, when somebody looked at them. */
  async function written(machine: string): Promise<{ disk: number; memory: number }> {
    const [disk = "", memory = ""] = (await ok(["exec", machine, "sh", "-c", checker])).split("\n");
    return { disk: Number(disk), memory: Number(memory) };
  }

  it("loses nothing while it writes and answers, and its children go on from the instant", async () => {
    await using parent = await clones(["-p", "8080"]);
    const { name } = parent.first;
    await ok(["exec", name, "sh", "-c", `(${writer}) >/dev/null 2>&1 &`]);
    const answers: number[] = [];
    let ended = false;
    const visitor = (async () => {
      while (!ended) answers.push((await visit(hostPort(parent.first))).visits);
    })();
    try {
      for (let round = 0; round < 2; round++) {
        const known = answers.length;
        await using fork = await forkOf(name, ["-n", "2", "-p", "8080"]);
        expect(fork.pauseMs).toBeGreaterThan(0);
        expect(fork.machines).toHaveLength(2);
        const visits = await Promise.all(
          fork.machines.map(async (child) => (await visit(hostPort(child))).visits),
        );
        // Both go on from one instant, which came after the visits that were answered before.
        expect(new Set(visits).size).toBe(1);
        expect(visits[0]).toBeGreaterThan(answers[known - 1] ?? 0);
        for (const child of fork.machines) {
          const { disk, memory } = await written(child.name);
          expect(disk).toBeGreaterThan(0);
          expect(memory).toBeGreaterThan(0);
        }
        await ok(["snapshot", "verify", fork.snapshot]);
      }
    } finally {
      ended = true;
      await visitor;
    }
    expect(answers).toEqual(answers.map((_, i) => (answers[0] ?? 0) + i));
    const first = await written(name);
    const second = await written(name);
    expect(second.disk).toBeGreaterThan(first.disk);
    expect(second.memory).toBeGreaterThan(first.memory);
  });

  it("is frozen as a difference, and so are its descendants, each for what it changed", async () => {
    const machines = [await clones(["-p", "8080"])];
    const names: string[] = [];
    try {
      const base = await sporectlJson<Snapshot>(["snapshot", "inspect", tag]);
      let parent = base.digest;
      for (const generation of [1, 2, 3]) {
        const machine = machines.at(-1)?.first;
        const { visits } = await visit(hostPort(machine));
        await ok([
          "exec",
          machine?.name ?? "",
          "sh",
          "-c",
          `head -c 2000000 /dev/urandom >/root/${generation}`,
        ]);
        const name = `diff:${generation}`;
        const layer = await sporectlJson<Snapshot>(["snapshot", "diff", machine?.name ?? "", "-t", name]);
        names.push(name);
        expect(layer).toMatchObject({ parent, layer: 1 + generation });
        expect(layer.memoryOwnBytes).toBeLessThan(base.memoryUsedBytes / 2);
        expect(layer.diskOwnBytes).toBeGreaterThan(2_000_000);
        expect(layer.diskOwnBytes).toBeLessThan(base.diskUsedBytes / 4);
        parent = layer.digest;
        const child = await clones(["-p", "8080"], name);
        machines.push(child);
        expect((await visit(hostPort(child.first))).visits).toBe(visits + 1);
        expect((await ok(["exec", child.first.name, "ls", "/root"])).split("\n")).toEqual(
          expect.arrayContaining(["1", String(generation)]),
        );
      }
    } finally {
      for (const machine of machines) await machine[Symbol.asyncDispose]();
      for (const name of names.reverse()) await ok(["snapshot", "rm", name]);
    }
  });

  it("is not touched by a call that is wrong", async () => {
    await using parent = await clones(["--name", "forked", "-p", "8080"]);
    const taken = String(hostPort(parent.first));
    const cases: [string[], number, RegExp][] = [
      [["fork", "froked"], 3, /did you mean forked/],
      [["fork", "forked", "-n", "0"], 2, /not a number of children/],
      [["fork", "forked", "--name", "forked"], 4, /has this name/],
      [["fork", "forked", "-p", `${taken}:8080`], 4, new RegExp(taken)],
      [["snapshot", "diff", "forked"], 2, /-t NAME/],
      [["snapshot", "diff", "froked", "-t", "diff:none"], 3, /did you mean forked/],
      [["snapshot", "diff", "forked", "-t", tag], 4, /there is one/],
    ];
    for (const [args, code, message] of cases) {
      const result = await sporectl(args);
      expect(result.code, args.join(" ")).toBe(code);
      expect(result.stderr).toMatch(message);
    }
    await ok(["pause", "forked"]);
    expect(await sporectl(["fork", "forked"])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining("sporectl unpause forked"),
    });
    await ok(["unpause", "forked"]);
    expect((await visit(hostPort(parent.first))).visits).toBeGreaterThan(0);
  });
});
