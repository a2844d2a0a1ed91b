import { type ErrorCode, SporeletError } from "@sporelet/errors";
import { describe, expect, it } from "vitest";
import { withAttempts, withPatience } from "./attempts.ts";

const failing = (code: ErrorCode) => new SporeletError({ code, operation: "fetch", reason: code });
const signal = new AbortController().signal;

/** Fails so often before it succeeds. */
function failsFirst(times: number, code: ErrorCode) {
  const task = async () => {
    task.calls += 1;
    if (task.calls <= times) throw failing(code);
    return "it";
  };
  task.calls = 0;
  return task;
}

describe("what is fetched with patience", () => {
  it("comes however long the registry was away, which is told meanwhile", async () => {
    const task = failsFirst(20, "unavailable");
    const problems: (string | undefined)[] = [];
    const onProblem = (problem?: SporeletError) => void problems.push(problem?.code);
    expect(await withPatience(task, { signal, onProblem, retryMs: 0 })).toBe("it");
    expect(problems).toEqual([...Array<string>(20).fill("unavailable"), undefined]);
  });

  it.each<ErrorCode>(["permission_denied", "not_found", "corrupt", "resource_exhausted"])(
    "is given up at once when it is %s, which waiting does not mend",
    async (code) => {
      const task = failsFirst(1, code);
      const attempt = withPatience(task, { signal, onProblem: () => {}, retryMs: 0 });
      await expect(attempt).rejects.toMatchObject({ code });
      expect(task.calls).toBe(1);
    },
  );

  it("is not waited for any more when it is called off", async () => {
    const stop = new AbortController();
    const onProblem = () => stop.abort();
    const endless = failsFirst(Number.POSITIVE_INFINITY, "unavailable");
    const attempt = withPatience(endless, { signal: stop.signal, onProblem, retryMs: 1e9 });
    await expect(attempt).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("what is fetched with a few attempts", () => {
  it("may come wrong twice, and is then given up", async () => {
    expect(await withAttempts(signal, failsFirst(2, "corrupt"))).toBe("it");
    await expect(withAttempts(signal, failsFirst(3, "corrupt"))).rejects.toMatchObject({ code: "corrupt" });
  });
});
