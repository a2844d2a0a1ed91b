import { describe, expect, it } from "vitest";
import { errorCodes, exitCodeOf, SporeletError } from "./error.ts";

describe("SporeletError", () => {
  it("reads as what failed, on what, and why", () => {
    const error = new SporeletError({
      code: "not_found",
      operation: "resume a clone of",
      subject: "helo",
      reason: "there is no such snapshot",
      hint: "did you mean hello?",
    });
    expect(error.message).toBe("cannot resume a clone of helo: there is no such snapshot");
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      code: "not_found",
      operation: "resume a clone of",
      subject: "helo",
      reason: "there is no such snapshot",
      hint: "did you mean hello?",
    });
  });

  it("keeps an error that already is one", () => {
    const error = new SporeletError({ code: "corrupt", operation: "read", reason: "it is cut short" });
    expect(SporeletError.from(error, { operation: "something else" })).toBe(error);
  });

  it.each([
    [Object.assign(new Error("write"), { code: "ENOSPC", path: "/x" }), "resource_exhausted"],
    [Object.assign(new Error("open"), { code: "EACCES" }), "permission_denied"],
    [Object.assign(new Error("open"), { code: "ENOENT" }), "not_found"],
    [AbortSignal.abort().reason as Error, "cancelled"],
    [new Error("who knows"), "internal"],
    ["a string", "internal"],
  ] as const)("sorts %s into the closed set of codes", (thrown, code) => {
    const error = SporeletError.from(thrown, { operation: "write", subject: "a file" });
    expect(error.code).toBe(code);
    expect(error.cause).toBe(thrown);
    expect(exitCodeOf(thrown)).toBe(errorCodes[code]);
  });

  it("has an exit code of its own for every code, none of them a shell's success or a command's failure", () => {
    const codes = Object.values(errorCodes);
    expect(new Set(codes).size).toBe(codes.length);
    expect(codes.every((code) => code > 1 && code < 256)).toBe(true);
  });
});
