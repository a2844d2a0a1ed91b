import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import type { MachineEnd } from "@sporelet/vmm";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { removeOtherStates } from "./own-state.ts";
import type { MachineRecord, MachineState } from "./record.ts";

/** Follows a machine that now lives: when it ends by itself its record says why, or it goes with `--rm`. */
export function watchEnd(node: Node, machine: ManagedMachine): void {
  const { live } = machine;
  if (live === undefined) return;
  const { log } = node;
  const fields = { machine: machine.name, id: machine.id };
  const failed = (what: string) => (error: unknown) => {
    log.error(what, error, fields);
    return undefined;
  };
  const whyEnded = async () =>
    (await node.resources.ended(machine.record).catch(failed("control groups not removed"))) ??
    (await node.lazy.failureOf(machine.record).catch(failed("cause of an end not known")));
  const retired = live.vm.ended.then(async (end) => {
    if (machine.ending || machine.live !== live) return;
    machine.gone.abort();
    log.info("machine ended", { ...fields, reason: end.reason });
    await machine.exclusive(async () => {
      if (machine.live !== live) return;
      const failure = end.reason === "crashed" ? await whyEnded() : undefined;
      await retire(node, machine, failure ? { state: "failed", failure } : outcomeOf(end));
    });
  });
  // Nobody waits for it.
  void retired.catch(failed("machine not cleared away after its end"));
}

/** The state of a machine that ended so. */
function outcomeOf(end: MachineEnd): { state: MachineState; failure?: string } {
  switch (end.reason) {
    case "guest":
      return { state: "stopped", failure: `the guest ended it${end.detail ? ` (${end.detail})` : ""}` };
    case "stopped":
      return { state: "stopped" };
    case "crashed":
      return { state: "failed", failure: end.detail ?? "its VMM ended unexpectedly" };
  }
}

/**
 * Ends a machine's process and frees all it has but its directory; then its record says what became of it,
 * or it is removed when it was started so.
 */
export async function retire(
  node: Node,
  machine: ManagedMachine,
  outcome: { state: MachineState; failure?: string },
): Promise<void> {
  await release(node, machine);
  const tell = (error: unknown) => node.log.error("record not written", error, { machine: machine.name });
  if (machine.record.remove) {
    try {
      return await forget(node, machine);
    } catch (error) {
      // It stays, then, and is seen to be there: whoever removes it meets the same error.
      node.log.error("machine not removed", error, { machine: machine.name, id: machine.id });
    }
  }
  const gone: Partial<MachineRecord> = {
    ...{ process: undefined, ports: [], network: { kind: "none" }, ownState: undefined },
  };
  await machine.update({ ...gone, ...outcome }).catch(tell);
  await removeOtherStates(machine.record).catch(tell);
  machine.stopped.abort();
}

/** Ends a machine and removes all that is left of it. */
export async function destroy(node: Node, machine: ManagedMachine): Promise<void> {
  await release(node, machine);
  await forget(node, machine);
}

/**
 * Ends a machine's process and frees all that it had while it lived. Each step is taken even when one before it
 * failed: what cannot be freed must not keep the rest.
 *
 * @param options.dormant it is suspended: its environment stays, and its ports are no longer its process's.
 *   Default: false
 */
export async function release(
  node: Node,
  machine: ManagedMachine,
  { dormant = false }: { dormant?: boolean } = {},
): Promise<void> {
  machine.ending = true;
  const { live } = machine;
  machine.live = undefined;
  machine.gone.abort();
  machine.idleness?.unwatch();
  const attempt = async (what: string, task: () => Promise<unknown>) => {
    try {
      await task();
    } catch (error) {
      node.log.error(what, error, { machine: machine.name, id: machine.id });
    }
  };
  if (live !== undefined) {
    live.agent.close();
    if (!dormant) await attempt("ports not closed", () => live.ports.close());
    await attempt("VMM not stopped", () => live.vm.stop());
    await attempt("control groups not removed", () => node.resources.ended(machine.record));
    await attempt("network not released", () => live.network.release());
    await attempt("lazy disk not removed", () => node.lazy.released(machine));
    live.alive[Symbol.dispose]();
  }
  if (dormant) return;
  const waiting = machine.dormant;
  machine.dormant = undefined;
  if (waiting !== undefined) {
    await attempt("ports not closed", () => waiting.ports.close());
    waiting.alive[Symbol.dispose]();
  }
  await attempt("environment not removed", () => dropEnvironment(node, machine.id));
}

async function forget(node: Node, machine: ManagedMachine): Promise<void> {
  // The name is free once the machine cannot be found any more, not before its directory is gone.
  try {
    await node.store.machines.remove(machine.id);
    node.machines.delete(machine);
  } finally {
    machine.stopped.abort();
  }
}

/** Where the environment given to a machine is kept: in memory (/run is a tmpfs), for this user alone. */
export function environmentPath(node: Pick<Node, "runtimeDirectory">, id: string): string {
  return path.join(node.runtimeDirectory, `${id}.env`);
}

/** The environment that was kept of a machine; empty when it has none, or it is lost. */
export async function environmentOf(
  node: Pick<Node, "runtimeDirectory">,
  id: string,
): Promise<Record<string, string>> {
  try {
    return JSON.parse(await readFile(environmentPath(node, id), "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    await dropEnvironment(node, id);
    return {};
  }
}

export async function dropEnvironment(node: Pick<Node, "runtimeDirectory">, id: string): Promise<void> {
  await rm(environmentPath(node, id), { force: true });
}
