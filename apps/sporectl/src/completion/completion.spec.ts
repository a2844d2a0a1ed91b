import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { families, groups } from "../commands/index.ts";
import { bashScript } from "./bash.ts";
import { fishScript } from "./fish.ts";
import { completionModel } from "./model.ts";
import { zshScript } from "./zsh.ts";

const terminal = path.join(import.meta.dirname, "../testing/terminal.py");
const model = completionModel(groups, families);
let directory: string;
const snapshotCommands = ["create", "diff", "history", "inspect", "ls", "rm", "tag", "verify"];

beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), "sporectl-completion-"));
  // Stands for a sporectl with two machines and two snapshots.
  const names =
    "case $2 in machines) echo hello-1; echo hello-2 ;; snapshots) echo hello; echo hello:old ;; entries) echo rootfs/3f2a ;; sources) echo console; echo api ;; esac";
  writeFileSync(path.join(directory, "sporectl"), `#!/bin/sh\n[ "$1" = __complete ] || exit 1\n${names}\n`);
  chmodSync(path.join(directory, "sporectl"), 0o755);
  writeFileSync(path.join(directory, "bash"), bashScript(model));
  writeFileSync(path.join(directory, "_sporectl"), zshScript(model));
  writeFileSync(path.join(directory, "fish"), fishScript(model));
  writeFileSync(path.join(directory, "file.txt"), "");
});
afterAll(() => rmSync(directory, { recursive: true }));

const has = (shell: string) => spawnSync(shell, ["--version"]).error === undefined;
const environment = () => ({ PATH: `${directory}:${process.env.PATH}`, HOME: directory, TERM: "dumb" });

/** What bash offers for a line that is typed up to its end. */
function inBash(line: string): string[] {
  const script = `
    source "$1"
    COMP_LINE=$2 COMP_POINT=\${#2}
    # As readline splits it: at blanks, and before and after ":" and "=".
    read -ra COMP_WORDS <<<"$(sed -E 's/([:=])/ \\1 /g' <<<"$2")"
    [[ $2 == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    _sporectl 2>&1
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const result = spawnSync("bash", ["--norc", "-c", script, "bash", path.join(directory, "bash"), line], {
    cwd: directory,
    env: environment(),
  });
  expect(result.stderr.toString()).toBe("");
  return result.stdout
    .toString()
    .split("\n")
    .filter((word) => word !== "")
    .sort();
}

describe("the completion for bash", () => {
  it.each([
    ["sporectl sn", ["snapshot"]],
    ["sporectl snapshot ", snapshotCommands],
    ["sporectl cache ", ["du", "gc", "ls", "rm", "warm"]],
    ["sporectl cache rm r", ["rootfs/3f2a"]],
    ["sporectl help ru", ["run"]],
    ["sporectl run --pub", ["--publish", "--publish-all"]],
    ["sporectl run he", ["hello", "hello:old"]],
    ["sporectl run hello:o", ["old"]],
    ["sporectl run -n 2 he", ["hello", "hello:old"]],
    ["sporectl run --name hello ", ["hello", "hello:old"]],
    ["sporectl exec ", ["hello-1", "hello-2"]],
    ["sporectl exec hello-1 --", []],
    ["sporectl stop hello-1 ", ["hello-1", "hello-2"]],
    ["sporectl logs hello-1 ", ["api", "console"]],
    ["sporectl --home /x ps --al", ["--all"]],
    ["sporectl snapshot rm ", ["hello", "hello:old"]],
    ["sporectl build --layer ", ["0", "1"]],
    ["sporectl completion z", ["zsh"]],
    ["sporectl cp fil", ["file.txt"]],
    ["sporectl cp hel", ["hello-1:", "hello-2:"]],
    ["sporectl --", ["--help", "--home", "--quiet", "--version"]],
  ])("%j offers %j", (line, expected) => expect(inBash(line)).toEqual(expected));

  it("knows every command and every option of the table", () => {
    for (const { path: command, options } of model.commands) {
      const offered = inBash(`sporectl ${command} -`);
      expect(offered, command).toEqual(options.flatMap(({ flags }) => flags).sort());
    }
  });
});

describe("the completion for zsh", () => {
  it("is read by zsh, and completes", (context) => {
    if (!has("zsh") || !has("python3")) context.skip("zsh or python3 is not installed");
    expect(spawnSync("zsh", ["-n", path.join(directory, "_sporectl")]).stderr.toString()).toBe("");
    // A zsh on a terminal of its own, in which the line is typed at the prompt, and listed with Ctrl-D.
    const offers = (line: string) => {
      const setUp = `fpath=(${directory} $fpath); autoload -U compinit; compinit -u -D; LISTMAX=0; PS1='rea''dy> '\n`;
      const actions = [
        ["[%#] ", { type: setUp }],
        ["ready> ", { type: `${line}\u0004` }],
        // The line stands again below the list.
        ["ready> ", { type: "\u0015exit\n" }],
      ];
      const argv = [terminal, "100", "40", JSON.stringify(actions), "zsh", "-f", "-i"];
      const result = spawnSync("python3", argv, { cwd: directory, env: environment() });
      return (JSON.parse(result.stdout.toString()) as { output: string }).output;
    };
    expect(offers("sporectl snapshot ")).toContain("Freeze a machine as a snapshot");
    expect(offers("sporectl stop ")).toMatch(/hello-1\s+hello-2/);
    expect(offers("sporectl run --pub")).toContain("--publish-all");
  });
});

describe("the completion for fish", () => {
  it("is read by fish, and completes", (context) => {
    if (!has("fish")) context.skip("fish is not installed");
    const offers = (line: string) => {
      const script = 'source $argv[1]; complete -C "$argv[2]"';
      const result = spawnSync("fish", ["--no-config", "-c", script, path.join(directory, "fish"), line], {
        cwd: directory,
        env: environment(),
      });
      expect(result.stderr.toString()).toBe("");
      return result.stdout
        .toString()
        .split("\n")
        .map((entry) => entry.split("\t")[0])
        .filter((word) => word !== "");
    };
    expect(offers("sporectl snapshot ").sort()).toEqual(snapshotCommands);
    expect(offers("sporectl cache rm ")).toEqual(["rootfs/3f2a"]);
    expect(offers("sporectl stop ").sort()).toEqual(["hello-1", "hello-2"]);
    expect(offers("sporectl run -n 2 ").sort()).toEqual(["hello", "hello:old"]);
    expect(offers("sporectl logs hello-1 ").sort()).toEqual(["api", "console"]);
    expect(offers("sporectl run --pub").sort()).toEqual(["--publish", "--publish-all"]);
  });
});

describe("the model", () => {
  it("leaves hidden commands out, and names every option once", () => {
    expect(model.commands.some(({ path: command }) => command.startsWith("__"))).toBe(false);
    for (const { path: command, options } of model.commands) {
      const flags = options.flatMap((option) => option.flags);
      expect(new Set(flags).size, command).toBe(flags.length);
    }
  });
});
