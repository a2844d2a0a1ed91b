import { describe, expect, it } from "vitest";
import { callTime } from "./call-time.ts";
import { relay } from "./relay.ts";

const disposable = (onDispose: () => void) => ({ [Symbol.dispose]: onDispose });

describe("relayed work", () => {
  it("gives its events in order and then its result", async () => {
    const result = disposable(() => {});
    const events = relay<number, Disposable>(async (onEvent) => {
      onEvent(1);
      await Promise.resolve();
      onEvent(2);
      return result;
    });
    expect(await events.next()).toEqual({ done: false, value: 1 });
    expect(await events.next()).toEqual({ done: false, value: 2 });
    expect(await events.next()).toEqual({ done: true, value: result });
  });

  it("gives the events before its error", async () => {
    const events = relay<number, Disposable>(async (onEvent) => {
      onEvent(1);
      throw new Error("broken");
    });
    expect(await events.next()).toEqual({ done: false, value: 1 });
    await expect(events.next()).rejects.toThrow("broken");
  });

  it("is aborted when nobody listens any more, and what it made all the same is disposed of", async () => {
    let disposed = false;
    let aborted = false;
    const events = relay<number, Disposable>(async (onEvent, signal) => {
      onEvent(1);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      aborted = true;
      return disposable(() => {
        disposed = true;
      });
    });
    await events.next();
    await events.return(disposable(() => {}));
    expect({ aborted, disposed }).toEqual({ aborted: true, disposed: true });
  });
});

describe("the time of a call", () => {
  it("is what was asked for, for all its parts together", () => {
    const time = callTime(new AbortController().signal, 10_000);
    expect(time.atMost(1)).toBe(time.atMost(1_000_000));
  });

  it("is each part's own where nothing was asked for", async () => {
    const time = callTime(new AbortController().signal, 0);
    const short = time.atMost(1);
    const long = time.atMost(1_000_000);
    await expect.poll(() => short.aborted).toBe(true);
    expect(short.reason.name).toBe("TimeoutError");
    expect(long.aborted).toBe(false);
  });

  it("ends when the caller goes away", () => {
    const caller = new AbortController();
    const signals = [callTime(caller.signal, 0).atMost(1000), callTime(caller.signal, 1000).atMost(1)];
    caller.abort(new Error("gone"));
    for (const { reason } of signals) expect(reason.message).toBe("gone");
  });
});
