import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";

/** States of a thing that is read, compressed, sent or fetched; see TransferItem in node.proto. */
type TransferState = "waiting" | "encoding" | "transferring" | "checking" | "exists" | "mounted" | "done";

/** Tells of one such thing. */
export interface ItemReport {
  state(state: TransferState, totalBytes?: number): void;
  /** So many bytes are done in this state. */
  progress(doneBytes: number): void;
}

/** Where a transfer says what it does. */
export interface Reports {
  emit(event: api.TransferEvent["event"]): void;
  item(id: string, title: string): ItemReport;
  notice(text: string): void;
}

/** A person sees no more changes than these. */
const leastIntervalMs = 100;

/** Reports as events of a call; progress of one thing is told at most ten times a second. */
export function createReports(emit: (event: api.TransferEvent["event"]) => void): Reports {
  return {
    emit,
    notice: (text) => emit({ case: "notice", value: text }),
    item(id, title) {
      let current: TransferState = "waiting";
      let totalBytes = 0;
      let toldAt = 0;
      const tell = (doneBytes: number) => {
        toldAt = performance.now();
        const value = create(api.TransferItemSchema, {
          ...{ id, title, state: current },
          doneBytes: BigInt(doneBytes),
          totalBytes: BigInt(totalBytes),
        });
        emit({ case: "item", value });
      };
      tell(0);
      return {
        state(state, total = totalBytes) {
          current = state;
          totalBytes = total;
          tell(state === "done" || state === "exists" || state === "mounted" ? total : 0);
        },
        progress(doneBytes) {
          if (performance.now() - toldAt >= leastIntervalMs) tell(doneBytes);
        },
      };
    },
  };
}
