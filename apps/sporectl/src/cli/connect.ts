import { connectNode, locateNode, type NodeClient } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "./context.ts";

/** A client of the spored of this home; when none runs, one is started, and the person is told. */
export async function connect(context: Context): Promise<NodeClient> {
  if (locateNode(context.home) === undefined) context.note(`starting spored for ${context.home}`);
  return await connectNode(context.home, { onNotice: context.note, signal: context.signal });
}

/** A client of the spored of this home; undefined when none runs. */
export async function connectRunning(context: Context): Promise<NodeClient | undefined> {
  if (locateNode(context.home) === undefined) return undefined;
  try {
    return await connectNode(context.home, { start: false, signal: context.signal });
  } catch (error) {
    if (error instanceof SporeletError && error.code === "unavailable") return undefined;
    throw error;
  }
}
