import type { NodeClient } from "@sporelet/api";
import type { Context } from "../cli/context.ts";

/** Longest wait for spored's clean-up after a cancelled call, milliseconds. */
const limitMs = 30_000;

/**
 * After a cancelled call: returns when spored has removed what that call had begun, so that whoever pressed
 * Ctrl-C finds nothing left when the prompt comes back. A second Ctrl-C does not wait.
 */
export async function cleanedUp(context: Context, node: NodeClient): Promise<void> {
  if (!context.signal.aborted) return;
  try {
    await node.settle({}, { timeoutMs: limitMs });
  } catch {
    // An older spored, or one that ended: it cleans up all the same, at its start if need be.
  }
}
