import { describe, expect, it } from "vitest";
import { allOrStop, asTheyCome, createGate, createQueues, together, unlessAborted } from "./together.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("together", () => {
  it("waits for all before it throws the first error", async () => {
    let late = false;
    const slow = turn()
      .then(turn)
      .then(() => {
        late = true;
      });
    await expect(together([Promise.reject(new Error("first")), slow])).rejects.toThrow("first");
    expect(late).toBe(true);
  });

  it("gives the values in the order of the promises", async () => {
    expect(await together([turn().then(() => 1), "two", Promise.resolve(3)])).toEqual([1, "two", 3]);
  });
});

describe("all or stop", () => {
  it("calls the others off when one fails, waits for them, and throws that failure", async () => {
    const seen: unknown[] = [];
    const patient = async (signal: AbortSignal) => {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      await turn();
      seen.push(signal.reason);
      signal.throwIfAborted();
    };
    const failing = () => turn().then(() => Promise.reject(new Error("no such blob")));
    const signal = new AbortController().signal;
    await expect(allOrStop([patient, failing, patient], signal)).rejects.toThrow("no such blob");
    expect(seen).toEqual([new Error("no such blob"), new Error("no such blob")]);
  });
});

describe("a gate", () => {
  it("lets only so many tasks run at a time, in the order of their coming", async () => {
    const gate = createGate(2);
    let running = 0;
    let most = 0;
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 9 }, (_, index) =>
        gate(async () => {
          order.push(index);
          most = Math.max(most, ++running);
          await turn();
          running -= 1;
        }),
      ),
    );
    expect(most).toBe(2);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("goes on after a task that failed", async () => {
    const gate = createGate(1);
    await expect(gate(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await gate(async () => "next")).toBe("next");
  });
});

describe("waiting at a gate", () => {
  it("ends when the signal aborts, and neither what runs nor who else waits notices", async () => {
    const gate = createGate(1);
    const { promise, resolve } = Promise.withResolvers<string>();
    const leaving = new AbortController();
    const first = gate(() => promise);
    const second = gate(async () => "never", leaving.signal);
    const third = gate(async () => "third");
    leaving.abort(new Error("gone"));
    await expect(second).rejects.toThrow("gone");
    resolve("first");
    expect(await first).toBe("first");
    expect(await third).toBe("third");
    expect(await gate(async () => "free again")).toBe("free again");
  });

  it("passes the turn on that comes in the moment of leaving", async () => {
    const gate = createGate(1);
    const { promise, resolve } = Promise.withResolvers<string>();
    const leaving = new AbortController();
    const first = gate(() => promise);
    const second = gate(async () => "never", leaving.signal);
    const third = gate(async () => "third");
    void first.then(() => leaving.abort(new Error("gone")));
    const outcome = second.catch((error: Error) => error.message);
    resolve("first");
    expect(["never", "gone"]).toContain(await outcome);
    expect(await third).toBe("third");
    expect(await gate(async () => "free again")).toBe("free again");
  });

  it("does not begin after the signal has aborted", async () => {
    const gone = AbortSignal.abort(new Error("gone"));
    await expect(createGate(1)(async () => "never", gone)).rejects.toThrow("gone");
  });
});

describe("queues", () => {
  it("run tasks of one key one by one, and others beside them", async () => {
    const queues = createQueues();
    const events: string[] = [];
    const task = (name: string) => async () => {
      events.push(`${name} begins`);
      await turn();
      events.push(`${name} ends`);
    };
    await Promise.all([queues("a", task("a1")), queues("a", task("a2")), queues("b", task("b1"))]);
    expect(events.indexOf("a1 ends")).toBeLessThan(events.indexOf("a2 begins"));
    expect(events.indexOf("b1 begins")).toBeLessThan(events.indexOf("a1 ends"));
  });

  it("let go of who does not wait any more", async () => {
    const queues = createQueues();
    const { promise, resolve } = Promise.withResolvers<string>();
    const leaving = new AbortController();
    const first = queues("a", () => promise);
    const second = queues("a", async () => "never", leaving.signal);
    leaving.abort(new Error("gone"));
    await expect(second).rejects.toThrow("gone");
    resolve("first");
    expect(await first).toBe("first");
    expect(await queues("a", async () => "anew")).toBe("anew");
  });
});

describe("results as they come", () => {
  it("are told in the order of their coming, and an error after those before it", async () => {
    const { promise, reject } = Promise.withResolvers<string>();
    const seen: string[] = [];
    const all = (async () => {
      for await (const value of asTheyCome([
        promise,
        turn().then(() => "second"),
        Promise.resolve("first"),
      ])) {
        seen.push(value);
        if (seen.length === 2) reject(new Error("last"));
      }
    })();
    await expect(all).rejects.toThrow("last");
    expect(seen).toEqual(["first", "second"]);
  });
});

describe("unlessAborted", () => {
  it("gives up with the signal's reason, at once when it was aborted before", async () => {
    const never = new Promise<never>(() => {});
    await expect(unlessAborted(never, AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    const controller = new AbortController();
    const waiting = unlessAborted(never, controller.signal);
    controller.abort(new Error("later"));
    await expect(waiting).rejects.toThrow("later");
  });
});
