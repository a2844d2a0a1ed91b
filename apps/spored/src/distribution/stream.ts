import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Node } from "../node.ts";
import { relay } from "../relay.ts";
import { createReports, type Reports } from "./reports.ts";

type Event = api.TransferEvent["event"];

interface Ended extends Disposable {
  event: Event;
}

/**
 * Serves a call that transfers something: its events as they come, its result at the end. When the caller goes
 * away the work is aborted, and the call ends once that has cleared up.
 *
 * @param what for errors that say less
 */
export async function* transferStream(
  node: Node,
  context: HandlerContext,
  what: { operation: string; subject: string },
  work: (reports: Reports, signal: AbortSignal) => Promise<Event>,
): AsyncGenerator<api.TransferEvent> {
  const message = (event: Event) => create(api.TransferEventSchema, { event });
  const { event } = yield* relay<api.TransferEvent, Ended>(async (onEvent, left) => {
    const signal = AbortSignal.any([context.signal, node.shutdown, left]);
    try {
      const result = await work(
        createReports((told) => onEvent(message(told))),
        signal,
      );
      return { event: result, [Symbol.dispose]: () => {} };
    } catch (error) {
      throw SporeletError.from(error, what);
    }
  });
  yield message(event);
}
