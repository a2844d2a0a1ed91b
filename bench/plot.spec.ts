import { describe, expect, it } from "vitest";
import { plot } from "./plot.ts";
import { line } from "./report.ts";

const samples = {
  name: "resume <from> a slot",
  unit: "ms",
  ours: [10, 20, 30],
  floor: [9, 9],
  limit: { median: 50 },
};

describe("a plot", () => {
  it("has a dot for each sample, a stroke at each median, and the limit", () => {
    const picture = plot(line(samples), samples);
    expect(picture.match(/<circle/g)).toHaveLength(5);
    expect(picture.match(/stroke-width="2"/g)).toHaveLength(2);
    expect(picture).toContain("stroke-dasharray");
    expect(picture).toContain("resume &lt;from> a slot, ms");
  });

  it("begins at zero, unless values are far apart", () => {
    const ticks = (picture: string) =>
      [...picture.matchAll(/>([\d.e-]+)<\/text>/g)].map(([, tick]) => Number(tick));
    expect(ticks(plot(line(samples), samples))).toEqual([0, 20, 40]);
    const apart = { ...samples, alternative: [60_000] };
    expect(ticks(plot(line(apart), apart))).toEqual([10, 100, 1000, 10_000]);
  });
});
