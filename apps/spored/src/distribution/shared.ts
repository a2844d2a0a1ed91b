import type { node as api } from "@sporelet/api";
import { createShared as createSharedWork } from "../shared.ts";
import { createReports, type Reports } from "./reports.ts";

/**
 * Lets callers that want the same thing at the same time share the transfer. Each hears what goes on from the
 * time that it came; see `createShared` of spored.
 */
export function createShared<T>() {
  const share = createSharedWork<api.TransferEvent["event"], T>();
  return (
    key: string,
    work: (reports: Reports, signal: AbortSignal) => Promise<T>,
    reports: Reports,
    signal: AbortSignal,
  ): Promise<T> =>
    share(key, (sharer) => work(createReports(sharer.onEvent), sharer.signal), {
      onEvent: reports.emit,
      signal,
    });
}
