import { anyNumber, one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";

export const shells = ["bash", "zsh", "fish"] as const;

const completionSignature = { args: { shell: one("SHELL", "bash, zsh or fish", shells) }, options: {} };
export type CompletionSignature = typeof completionSignature;

export const completion = defineCommand({
  name: "completion",
  summary: "Print the completion script for a shell",
  description: "Names of machines and snapshots are completed when spored runs; completing never starts it.",
  signature: completionSignature,
  examples: [
    ["source <(sporectl completion bash)", "In ~/.bashrc"],
    ["sporectl completion zsh > ~/.zfunc/_sporectl", "With ~/.zfunc in fpath"],
    ["sporectl completion fish > ~/.config/fish/completions/sporectl.fish", "Once"],
  ],
  load: () => import("../actions/completion.ts"),
});

const versionSignature = { args: {}, options: {} };
export type VersionSignature = typeof versionSignature;

export const version = defineCommand({
  name: "version",
  summary: "Print the versions of sporectl and of the spored that runs",
  description: "Starts nothing.",
  signature: versionSignature,
  examples: [["sporectl version", "Both versions"]],
  json: true,
  load: () => import("../actions/version.ts"),
});

const completeSignature = {
  args: { kind: one("KIND", "machines, snapshots, entries or sources"), words: anyNumber("WORD", "") },
  options: {},
};
export type CompleteSignature = typeof completeSignature;

export const complete = defineCommand({
  name: "__complete",
  summary: "Print candidates for the completion, one per line",
  description: "",
  signature: completeSignature,
  examples: [],
  hidden: true,
  load: () => import("../actions/complete.ts"),
});
