import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorCode, errorCodes, SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromConnectError, toConnectError } from "./errors.ts";

const context = { operation: "call Run of spored" };
const text = fc.string({ minLength: 1 });
const optional = fc.option(text, { nil: undefined });
const anyError = fc
  .record({
    code: fc.constantFrom(...(Object.keys(errorCodes) as ErrorCode[])),
    operation: text,
    subject: optional,
    reason: text,
    hint: optional,
    log: optional,
  })
  .map((options) => new SporeletError(options));

describe("errors over the wire", () => {
  it("any SporeletError comes back equal", () => {
    fc.assert(
      fc.property(anyError, (error) => {
        const back = fromConnectError(toConnectError(error), context);
        expect(back.toJSON()).toEqual(error.toJSON());
        expect(back.message).toBe(error.message);
      }),
    );
  });

  it("something else that a handler threw keeps its meaning", () => {
    const full = Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    const back = fromConnectError(toConnectError(full, { operation: "store the machine" }), context);
    expect(back.code).toBe("resource_exhausted");
    expect(back.operation).toBe("store the machine");
  });

  it("a foreign Connect error takes the nearest code and the call as its operation", () => {
    const back = fromConnectError(new ConnectError("gone", Code.Unavailable), context);
    expect(back).toMatchObject({ code: "unavailable", operation: context.operation, reason: "gone" });
  });

  it("a SporeletError that a library wrapped is found again", () => {
    const inner = new SporeletError({ code: "corrupt", operation: "read the store", reason: "cut short" });
    const wrapped = new ConnectError("oops", Code.Unknown, undefined, undefined, inner);
    expect(fromConnectError(toConnectError(wrapped), context).toJSON()).toEqual(inner.toJSON());
  });
});
