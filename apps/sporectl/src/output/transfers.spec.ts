import { create } from "@bufbuild/protobuf";
import { node } from "@sporelet/api";
import { describe, expect, it } from "vitest";
import { transferStep } from "./transfers.ts";

const item = (fields: Partial<node.TransferItem>) =>
  create(node.TransferItemSchema, { id: "sha256:1", title: "memory", ...fields } as never);

describe("a transfer as a step", () => {
  it("has a bar and amounts while it goes on", () => {
    const step = transferStep(
      item({ state: "transferring", doneBytes: 2n << 20n, totalBytes: 8n << 20n }),
      1500,
    );
    expect(step).toMatchObject({ state: "progress", fraction: 0.25, elapsedMs: 1500 });
    expect(`${step.detail} ${step.amount}`).toBe("transferring 2 MiB of 8 MiB");
  });

  it("has no bar when nobody knows how much there is", () => {
    const step = transferStep(item({ state: "encoding", doneBytes: 1024n }), 0);
    expect(step).toMatchObject({ fraction: -1, detail: "compressing", amount: "1 KiB" });
  });

  it("says why there was nothing to do", () => {
    expect(transferStep(item({ state: "exists" }), 0)).toMatchObject({
      state: "cached",
      detail: "there already",
    });
    expect(transferStep(item({ state: "mounted" }), 0)).toMatchObject({ state: "cached", detail: "mounted" });
  });
});
