import type { node } from "@sporelet/api";
import { humanBytes } from "./human.ts";
import type { Progress } from "./progress.ts";
import type { Step } from "./steps.ts";

/** Shows the transfers of a call as steps, each with its bar. */
export function createTransferSteps(
  progress: Progress,
  now: () => number,
): (item: node.TransferItem) => void {
  const begun = new Map<string, number>();
  return (item) => {
    const nowMs = now();
    const since = begun.get(item.id) ?? nowMs;
    begun.set(item.id, since);
    progress.step(transferStep(item, nowMs - since));
  };
}

/** What an event of a transfer says as a step. Pure. */
export function transferStep(item: node.TransferItem, elapsedMs: number): Step {
  const { title, state } = item;
  const done = Number(item.doneBytes);
  const total = Number(item.totalBytes);
  // The title identifies it where lines cannot be redrawn: digests mean nothing to people.
  const base = { id: title, title, elapsedMs };
  if (state === "exists") return { ...base, state: "cached", fraction: 1, detail: "there already" };
  if (state === "mounted") return { ...base, state: "cached", fraction: 1, detail: "mounted" };
  if (state === "done") return { ...base, state: "done", fraction: 1, detail: "" };
  if (state === "waiting") return { ...base, state: "started", fraction: -1, detail: "" };
  return {
    ...base,
    state: "progress",
    fraction: total > 0 ? done / total : -1,
    detail: item.detail || verbs[state] || state,
    amount: total > 0 ? `${humanBytes(done)} of ${humanBytes(total)}` : humanBytes(done),
  };
}

const verbs: Record<string, string> = {
  encoding: "compressing",
  transferring: "transferring",
  checking: "checking",
};
