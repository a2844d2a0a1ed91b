import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { createEventQueue } from "../event-queue.ts";
import type { Node } from "../node.ts";
import { createReports, type Reports } from "./reports.ts";

type Event = api.TransferEvent["event"];

/**
 * Serves a call that transfers something: its events as they come, its result at the end. When the caller goes
 * away the work is aborted, and the call ends once it has cleared up.
 */
export async function* transferStream(
  node: Node,
  context: HandlerContext,
  operation: { name: string; subject: string },
  work: (reports: Reports, signal: AbortSignal) => Promise<Event>,
): AsyncGenerator<api.TransferEvent> {
  const events = createEventQueue<api.TransferEvent>();
  const emit = (event: Event) => events.push(create(api.TransferEventSchema, { event }));
  const left = new AbortController();
  const signal = AbortSignal.any([context.signal, node.shutdown, left.signal]);
  const done = work(createReports(emit), signal).then(
    (result) => {
      emit(result);
      events.end();
    },
    (error: unknown) => {
      const context = { operation: operation.name, subject: operation.subject };
      events.end({ error: SporeletError.from(error, context) });
    },
  );
  try {
    yield* events;
  } finally {
    left.abort(new DOMException("the caller went away", "AbortError"));
    await done;
  }
}
