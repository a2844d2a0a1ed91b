import type { NodeClient, node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";
import { createProgress } from "../output/progress.ts";
import { createTransferSteps } from "../output/transfers.ts";
import { cleanedUp } from "./cleanup.ts";

/** What a transfer ends with. */
interface Ends {
  result: node.Snapshot;
  pushed: node.Pushed;
}

/** Shows the events of a push, pull or export; after Ctrl-C it returns when spored has cleaned up. */
export async function followTransfer<C extends keyof Ends>(
  context: Context,
  client: NodeClient,
  events: AsyncIterable<node.TransferEvent>,
  end: C,
): Promise<Ends[C]> {
  using progress = createProgress(context);
  const show = createTransferSteps(progress, context.io.now);
  let result: Ends[C] | undefined;
  try {
    for await (const { event } of events) {
      if (event.case === "item") show(event.value);
      else if (event.case === "notice") progress.note(event.value);
      else if (event.case === end) result = event.value as Ends[C];
    }
  } catch (error) {
    progress.end();
    await cleanedUp(context, client);
    throw error;
  }
  progress.end();
  if (result !== undefined) return result;
  throw new SporeletError({
    code: "unavailable",
    operation: "transfer a snapshot",
    reason: "spored ended before it was done",
  });
}
