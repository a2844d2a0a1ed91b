import { describe, expect, it } from "vitest";
import { createShared, type Sharer } from "./shared.ts";

function setUp() {
  const share = createShared<string, string>();
  const works: (Sharer<string> & { end: PromiseWithResolvers<string> })[] = [];
  const work = (sharer: Sharer<string>) => {
    const end = Promise.withResolvers<string>();
    works.push({ ...sharer, end });
    return end.promise;
  };
  const caller = (key = "a") => {
    const told: string[] = [];
    const leave = new AbortController();
    const result = share(key, work, { onEvent: (event) => told.push(event), signal: leave.signal });
    result.catch(() => {});
    return { told, result, leave: () => leave.abort(new Error("left")) };
  };
  /** The work that was begun as the nth. */
  const begun = async (n: number) => {
    await expect.poll(() => works.length).toBeGreaterThan(n);
    const found = works[n];
    if (found === undefined) throw new Error("not begun");
    return found;
  };
  return { caller, begun, works };
}

describe("work that is shared", () => {
  it("is done once for all who want it, and tells each what goes on", async () => {
    const { caller, begun, works } = setUp();
    const [first, second] = [caller(), caller()];
    const { onEvent, end } = await begun(0);
    onEvent("half");
    const late = caller();
    onEvent("nearly");
    end.resolve("done");
    expect(await Promise.all([first.result, second.result, late.result])).toEqual(["done", "done", "done"]);
    expect([first.told, second.told, late.told]).toEqual([
      ["half", "nearly"],
      ["half", "nearly"],
      ["half", "nearly"],
    ]);
    expect(works).toHaveLength(1);
  });

  it("tells whoever begins it of its first event", async () => {
    const share = createShared<string, void>();
    const told: string[] = [];
    const signal = new AbortController().signal;
    await share("a", async ({ onEvent }) => onEvent("at once"), {
      onEvent: (event) => told.push(event),
      signal,
    });
    expect(told).toEqual(["at once"]);
  });

  it("is done side by side for other keys, and anew when it is over", async () => {
    const { caller, begun } = setUp();
    const [a, b] = [caller("a"), caller("b")];
    (await begun(0)).end.resolve("for a");
    (await begun(1)).end.resolve("for b");
    expect([await a.result, await b.result]).toEqual(["for a", "for b"]);
    const again = caller("a");
    (await begun(2)).end.resolve("again");
    expect(await again.result).toBe("again");
  });

  it("goes on while one waits, and is aborted when nobody does", async () => {
    const { caller, begun } = setUp();
    const [first, second] = [caller(), caller()];
    const { signal, end } = await begun(0);
    first.leave();
    await expect(first.result).rejects.toThrow("left");
    expect(signal.aborted).toBe(false);
    second.leave();
    await expect.poll(() => signal.aborted).toBe(true);
    let ended = false;
    void second.result.catch(() => {
      ended = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(ended, "the call ends after the work has cleared up").toBe(false);
    end.reject(new Error("aborted"));
    await expect(second.result).rejects.toThrow("left");
  });

  it("is begun anew for whoever comes while it is being called off", async () => {
    const { caller, begun } = setUp();
    const first = caller();
    const { signal, end } = await begun(0);
    first.leave();
    await expect.poll(() => signal.aborted).toBe(true);
    const next = caller();
    end.reject(new Error("aborted"));
    (await begun(1)).end.resolve("anew");
    expect(await next.result).toBe("anew");
  });

  it("fails for all, and can be tried again", async () => {
    const { caller, begun } = setUp();
    const all = [caller(), caller()];
    (await begun(0)).end.reject(new Error("no luck"));
    for (const { result } of all) await expect(result).rejects.toThrow("no luck");
    const again = caller();
    (await begun(1)).end.resolve("luck");
    expect(await again.result).toBe("luck");
  });

  it("is not begun by somebody who is gone already", async () => {
    const { works } = setUp();
    const share = createShared<string, string>();
    const options = { onEvent: () => {}, signal: AbortSignal.abort(new Error("gone")) };
    await expect(share("a", async () => "x", options)).rejects.toThrow("gone");
    expect(works).toEqual([]);
  });
});
