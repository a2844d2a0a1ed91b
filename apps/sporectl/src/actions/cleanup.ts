import type { NodeClient } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";

/** Longest wait for spored's clean-up after a cancelled call, milliseconds. */
const limitMs = 30_000;

/**
 * After a cancelled call: returns when spored has removed what that call had begun, so that whoever pressed
 * Ctrl-C finds nothing left when the prompt comes back. A second Ctrl-C does not wait.
 *
 * @returns the machines that this process has started and that are still there
 */
export async function cleanedUp(context: Context, node: NodeClient): Promise<string[]> {
  if (!context.signal.aborted) return [];
  try {
    return (await node.settle({}, { timeoutMs: limitMs })).machines;
  } catch {
    // It ended: it cleans up all the same, at its start if need be.
    return [];
  }
}

/** As `cleanedUp`; machines that had all been started before the cancellation reached spored are removed, too. */
export async function cleanedUpMachines(context: Context, node: NodeClient): Promise<void> {
  const machines = await cleanedUp(context, node);
  await Promise.all(machines.map((machine) => removed(node, machine)));
}

/** Removes a machine, whatever it does; one that is gone is fine. */
export async function removed(node: NodeClient, machine: string): Promise<void> {
  try {
    await node.removeMachine({ machine, force: true }, { timeoutMs: limitMs });
  } catch (error) {
    if (!(error instanceof SporeletError && error.code === "not_found")) throw error;
  }
}
