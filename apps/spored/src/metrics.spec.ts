import { expect, it } from "vitest";
import { createMetrics } from "./metrics.ts";
import type { Node } from "./node.ts";

const node = { machines: [], slots: { counts: () => [] } } as unknown as Node;
const start = {
  ...{ readyMs: 20, planMs: 1, slotMs: 1, loadMs: 0, agentMs: 16, readyStageMs: 2, fromPool: true },
  guest: { clockMs: 0.02, entropyMs: 0.3, identityMs: 1, networkMs: 2, thawMs: 0.5, hooksMs: 4 },
};

it("has the stages of a start, and the guest's own part of it", async () => {
  const metrics = createMetrics();
  metrics.started("resume", start);
  const text = await metrics.text(node);
  const labels = (stage: string) => `{origin="resume",stage="${stage}",slot="prepared"}`;
  expect(text).toContain(`sporelet_start_stage_seconds_sum${labels("ready")} 0.02\n`);
  for (const stage of ["clock", "entropy", "identity", "network", "thaw", "hooks"]) {
    expect(text).toContain(`sporelet_guest_stage_seconds_count${labels(stage)} 1\n`);
  }
  expect(text).toContain(`sporelet_guest_stage_seconds_sum${labels("hooks")} 0.004\n`);
});

it("has no account of a guest that gave none", async () => {
  const metrics = createMetrics();
  metrics.started("boot", { ...start, guest: undefined } as never);
  expect(await metrics.text(node)).not.toContain("sporelet_guest_stage_seconds_count{");
});

it("has how long machines took to be suspended", async () => {
  const metrics = createMetrics();
  metrics.suspended(80);
  const text = await metrics.text(node);
  expect(text).toContain("sporelet_suspend_seconds_sum 0.08\n");
  expect(text).toContain('sporelet_suspend_seconds_bucket{le="0.1"} 1\n');
});
