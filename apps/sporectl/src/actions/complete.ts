import type { NodeClient } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { CompleteSignature } from "../commands/other.ts";
import { shortEntryId } from "../output/cache.ts";

/** A shell that waits for longer is a nuisance, milliseconds. */
const limitMs = 1000;

/** Prints what exists, when spored runs and answers soon; else nothing. Never starts it, never complains. */
export const action: Action<CompleteSignature> = async (context, { kind, words }) => {
  try {
    const node = await context.runningNode();
    if (node !== undefined) context.print(...(await candidates(node, kind, words)));
  } catch {
    // A completion has nobody to tell.
  }
  return 0;
};

async function candidates(node: NodeClient, kind: string, words: readonly string[]): Promise<string[]> {
  const options = { timeoutMs: limitMs };
  switch (kind) {
    case "machines":
      return (await node.listMachines({}, options)).machines.map((machine) => machine.name);
    case "snapshots":
      return (await node.listSnapshots({}, options)).snapshots.flatMap((snapshot) =>
        snapshot.tags.map(shortTag),
      );
    case "entries": {
      const { entries } = await node.listCache({}, options);
      // What could be removed; the short ids suffice.
      return entries.filter(({ keptBy }) => keptBy.length === 0).map(({ id }) => shortEntryId(id));
    }
    case "sources": {
      const fixed = ["console", "agent", "vmm"];
      const [machine] = words;
      if (machine === undefined) return fixed;
      const { snapshotDigest: snapshot } = await node.inspectMachine({ machine }, options);
      return [...fixed, ...(await node.inspectSnapshot({ snapshot }, options)).services];
    }
    default:
      return [];
  }
}

function shortTag(tag: string): string {
  return tag.replace(/:latest$/, "");
}
