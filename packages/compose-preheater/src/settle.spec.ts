import { describe, expect, it } from "vitest";
import { settle } from "./settle.ts";
import { container, fakeGuest } from "./testing/fake-guest.ts";

const nowMs = Date.parse("2030-01-01T00:00:00Z");
function checked(name: string, agoMs: number, everyMs = 10_000) {
  const End = new Date(nowMs - agoMs).toISOString();
  const one = container(name, { Health: { Status: "healthy", Log: [{ ExitCode: 0, Output: "", End }] } });
  one.Config.Healthcheck = { Interval: everyMs * 1e6 };
  return one;
}

function setUp(...containers: ReturnType<typeof container>[]) {
  const guest = fakeGuest({ containers });
  const waiting = Promise.withResolvers<void>();
  const clock = { nowMs };
  const settled = settle(guest, "shop", {
    signal: new AbortController().signal,
    onWait: waiting.resolve,
    now: () => clock.nowMs,
  });
  let done = false;
  void settled.then(
    () => (done = true),
    () => (done = true),
  );
  const check = async (name: string, afterMs: number) => {
    clock.nowMs += afterMs;
    guest.event(`exec_start: redis-cli ping id-${name}`);
    guest.event(`exec_die id-${name}`);
    await new Promise(setImmediate);
    return done;
  };
  return { settled, waiting: waiting.promise, check };
}

describe("settling before a freeze", () => {
  it("takes no time without healthchecks, or when the next one is far off", async () => {
    await setUp(container("a")).settled;
    await setUp(checked("a", 1000, 30_000)).settled;
  });

  it("waits for the end of a check that is due soon", async () => {
    const { waiting, settled, check } = setUp(checked("a", 9000));
    await waiting;
    expect(await check("a", 2000)).toBe(true);
    await settled;
  });

  it("waits on when another check is due right after that one", async () => {
    const { waiting, settled, check } = setUp(checked("a", 9000), checked("b", 8000));
    await waiting;
    expect(await check("a", 1500)).toBe(false);
    expect(await check("b", 1000)).toBe(true);
    await settled;
  });

  it("fails when a container has ended meanwhile", async () => {
    const { settled } = setUp(container("a", { Status: "exited", ExitCode: 139 }));
    await expect(settled).rejects.toMatchObject({ name: "NotUp" });
  });
});
