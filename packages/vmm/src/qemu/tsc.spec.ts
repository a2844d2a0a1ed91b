import { expect, it } from "vitest";
import { hostTscKhz, kilohertz } from "./tsc.ts";

it("counts ticks per millisecond", () => {
  expect(kilohertz({ ticks: 10n, ns: 5n }, { ticks: 130_000_010n, ns: 50_000_005n })).toBe(2_600_000);
});

it("measures this host's counter", async (ctx) => {
  const khz = await hostTscKhz();
  if (process.arch !== "x64") ctx.skip(`no such counter on ${process.arch}`);
  expect(khz).toBeGreaterThan(100_000);
  expect(khz).toBeLessThan(20_000_000);
});
