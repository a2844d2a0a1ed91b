import { spawn, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type FakeNode, startFakeNode } from "../testing/fake-node.ts";

const main = path.join(import.meta.dirname, "../main.ts");
const terminal = path.join(import.meta.dirname, "../testing/terminal.py");
const hasPython = spawnSync("python3", ["-c", "import pty"]).status === 0;

type Action = { type?: string; size?: [number, number]; signal?: string };

let node: FakeNode;
beforeAll(async () => {
  node = await startFakeNode();
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
});
beforeEach((context) => {
  if (!hasPython) context.skip("python3 with its module pty is not installed");
});

/** Runs sporectl on a terminal of 101 columns and 33 rows. */
async function onTerminal(
  args: string[],
  script: [string, Action][] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<{ output: string; code: number; cooked: boolean }> {
  const argv = [terminal, "101", "33", JSON.stringify(script), process.execPath, main, ...args];
  const child = spawn("python3", argv, {
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      SPORELET_HOME: node.home,
      TERM: "xterm",
      NODE_NO_WARNINGS: "1",
      NO_COLOR: "",
      ...env,
    },
  });
  return JSON.parse(await text(child.stdout));
}

describe("on a terminal", () => {
  it("exec -it gives a shell of the terminal's size, and its exit code", async () => {
    const result = await onTerminal(
      ["exec", "-it", "hello-1", "bash", "--norc"],
      [
        ["[#$] ", { type: "stty size; test -t 0 && test -t 1 && echo term=$TERM-$((40+2))\n" }],
        ["term=xterm-42", { type: "exit 5\n" }],
      ],
    );
    expect(result.output).toContain("33 101");
    expect(result).toMatchObject({ code: 5, cooked: true });
  });

  it("what the program writes is shown as it is", async () => {
    const program = "stty -opost; printf 'down\\nthere\\n'";
    const result = await onTerminal(["exec", "-it", "hello-1", "sh", "-c", program]);
    expect(result.output).toContain("down\nthere\n");
  });

  it("Ctrl-C is a key that the program gets, not the end of sporectl", async () => {
    const program = "trap 'echo caught-$((1+1)); exit 3' INT; echo go; while :; do sleep 0.05; done";
    const result = await onTerminal(
      ["exec", "-it", "hello-1", "sh", "-c", program],
      [["go", { type: "\u0003" }]],
    );
    expect(result.output).toContain("caught-2");
    expect(result).toMatchObject({ code: 3, cooked: true });
  });

  it("a new size is passed on", async () => {
    const known = path.join(node.guestRoot, "resized");
    const running = onTerminal(
      ["exec", "-t", "hello-1", "sh", "-c", `echo up; until [ -e ${known} ]; do sleep 0.05; done`],
      [["up", { size: [77, 22] }]],
    );
    await expect.poll(() => node.seen, { timeout: 30_000 }).toContain("resize 77x22");
    await writeFile(known, "");
    expect((await running).code).toBe(0);
  });

  it("the terminal is as before when sporectl is ended by a signal", async () => {
    const result = await onTerminal(
      ["exec", "-it", "hello-1", "sh", "-c", "echo up; exec sleep 600"],
      [["up", { signal: "SIGTERM" }]],
    );
    expect(result).toMatchObject({ cooked: true });
  });

  it("the steps of a build stay, and so does the cursor", async () => {
    const result = await onTerminal(["build", "/src/hello", "-t", "hello"]);
    expect(result.output).toMatch(/Kernel +cached/);
    expect(result.output.split("\u001b[?25l").length).toBe(result.output.split("\u001b[?25h").length);
    expect(result.code).toBe(0);
  });

  it("Ctrl-C cancels a build, waits for the clean-up, and the cursor is there again", async () => {
    node.seen.length = 0;
    const result = await onTerminal(["build", "/src/hello", "-t", "slow"], [["Warm up", { type: "\u0003" }]]);
    expect(result.output).toMatch(/cancelled\r?\n$/);
    expect(result.output.lastIndexOf("\u001b[?25h")).toBeGreaterThan(
      result.output.lastIndexOf("\u001b[?25l"),
    );
    expect(result).toMatchObject({ code: 130, cooked: true });
    expect(node.seen).toEqual(["build cancelled", "settled"]);
  });

  it("Ctrl-C cancels a run and waits for the clean-up", async () => {
    node.seen.length = 0;
    const result = await onTerminal(["run", "slow"], [["resuming", { type: "\u0003" }]]);
    expect(result.code).toBe(130);
    expect(node.seen).toEqual(["run cancelled", "settled"]);
  });

  it("Ctrl-C removes machines that were all started when it reached spored", async () => {
    node.seen.length = 0;
    const before = [...node.data.machines];
    const result = await onTerminal(["run", "late", "-n", "2"], [["resuming", { type: "\u0003" }]]);
    expect(result.code).toBe(130);
    expect(node.seen).toEqual(["run cancelled", "settled"]);
    expect(node.data.machines).toEqual(before);
  });

  it("stats are redrawn until Ctrl-C, which is no failure", async () => {
    const result = await onTerminal(["stats"], [["hello-1.*hello-1", { type: "\u0003" }]]);
    expect(result.code).toBe(0);
    expect(result.output.lastIndexOf("\u001b[?25h")).toBeGreaterThan(
      result.output.lastIndexOf("\u001b[?25l"),
    );
  });

  it("logs are followed until Ctrl-C, which is no failure", async () => {
    const result = await onTerminal(
      ["logs", "-f", "--tail", "1", "hello-1"],
      [["login: none", { type: "\u0003" }]],
    );
    expect(result).toMatchObject({ code: 0, output: expect.not.stringContaining("cancelled") });
  });

  it("colour is there, and not with NO_COLOR", async () => {
    expect((await onTerminal(["ps"])).output).toContain("\u001b[32mrunning");
    expect((await onTerminal(["ps"], [], { NO_COLOR: "1" })).output).not.toContain("\u001b[32m");
  });
});
