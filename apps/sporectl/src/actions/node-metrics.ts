import { SporeletError } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { NodeMetricsSignature } from "../commands/node.ts";

export const action: Action<NodeMetricsSignature> = async (context) => {
  const node = await context.runningNode();
  if (node === undefined) {
    throw new SporeletError({
      code: "unavailable",
      operation: "get the metrics of",
      subject: context.home,
      reason: "no spored runs for it",
      hint: "sporectl node start",
    });
  }
  const { text } = await node.metrics({}, { signal: context.signal });
  context.print(...text.trimEnd().split("\n"));
  return 0;
};
