import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { inTurn } from "./in-turn.ts";
import { createGate } from "./together.ts";

describe("a task with a limit, behind a gate", () => {
  const signal = new AbortController().signal;

  it("has all of its time when its turn comes, however late that is", async () => {
    const gate = createGate(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = gate(() => promise);
    const later = inTurn(gate, { signal, timeoutMs: 200 }, async (mine) => mine.aborted);
    await sleep(300);
    resolve();
    await first;
    expect(await later).toBe(false);
  });

  it("is told when its time is over", async () => {
    const late = inTurn(createGate(1), { signal, timeoutMs: 10 }, (mine) =>
      sleep(60_000, "", { signal: mine }),
    );
    await expect(late).rejects.toMatchObject({ cause: { name: "TimeoutError" } });
  });

  it("does not begin when its caller has left meanwhile", async () => {
    const gate = createGate(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = gate(() => promise);
    const caller = new AbortController();
    let began = false;
    const later = inTurn(gate, { signal: caller.signal, timeoutMs: 60_000 }, async () => {
      began = true;
    });
    caller.abort(new Error("gone"));
    resolve();
    await first;
    await expect(later).rejects.toThrow("gone");
    expect(began).toBe(false);
  });
});
