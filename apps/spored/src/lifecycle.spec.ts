import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { storeFrozenGuest } from "./lazy/testing/frozen-guest.ts";
import { type LocalNode, openLocalNode } from "./lazy/testing/local-node.ts";
import { resumeClone } from "./resume.ts";
import { enlist } from "./start.ts";

describe("a machine that ends by itself", () => {
  let local: LocalNode;
  let snapshot: StoredSnapshot;

  beforeAll(async () => {
    local = await openLocalNode();
    snapshot = await storeFrozenGuest(local.node, "guest");
  });
  afterAll(async () => {
    await local?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    for (const machine of local.node.machines) await local.remove(machine);
    local.log.length = 0;
  });

  const killed = async (remove: boolean) => {
    const plan = {
      ...{ snapshot, reference: "guest", name: "clone", ports: [], env: {}, remove },
      arrivedAt: performance.now(),
    };
    const machine = enlist(local.node, plan, "resume");
    await resumeClone(local.node, machine, plan, AbortSignal.timeout(30_000));
    process.kill(machine.live?.vm.pid ?? 0, "SIGKILL");
    return machine;
  };
  const logged = (event: string) => local.log.some((line) => line.includes(`"event":"${event}"`));

  it("is cleared away, whatever cannot be freed or asked, and the log has that", async () => {
    vi.spyOn(local.node.resources, "ended").mockRejectedValue(new Error("stuck"));
    vi.spyOn(local.node.lazy, "failureOf").mockRejectedValue(new Error("stuck"));
    const machine = await killed(false);
    await expect.poll(() => machine.record.state, { timeout: 20_000 }).toBe("failed");
    expect(machine.live).toBeUndefined();
    expect(logged("control groups not removed")).toBe(true);
  });

  it("stays, and says what became of it, when it cannot be removed as it was started to be", async () => {
    vi.spyOn(local.node.store.machines, "remove").mockRejectedValueOnce(new Error("stuck"));
    const machine = await killed(true);
    await expect.poll(() => machine.record.state, { timeout: 20_000 }).toBe("failed");
    expect([...local.node.machines]).toContain(machine);
    expect(logged("machine not removed")).toBe(true);
  });
});
