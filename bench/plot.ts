import type { Line, Samples } from "./report.ts";

const width = 640;
const rowHeight = 46;
const left = 110;
const right = 24;
const top = 34;
const colours = { ours: "#0b6e4f", floor: "#8a8f98", alternative: "#c2571a" } as const;

/**
 * A line's samples as an SVG picture: a dot for each, from zero on one scale, and a stroke at the median. Where one
 * series is more than twenty times as far out as ours, the scale is logarithmic. Pure.
 */
export function plot({ name, unit, limit }: Line, samples: Pick<Samples, keyof typeof colours>): string {
  const rows = Object.entries(colours).flatMap(([series, colour]) => {
    const values = samples[series as keyof typeof colours] ?? [];
    return values.length === 0 ? [] : [{ series, colour, values }];
  });
  const largest = Math.max(...rows.flatMap(({ values }) => values), limit.median ?? 0);
  const smallest = Math.min(...rows.flatMap(({ values }) => values));
  const logarithmic = smallest > 0 && largest / smallest > 20;
  const from = logarithmic ? smallest / 1.5 : 0;
  const to = largest * (logarithmic ? 1.5 : 1.05) || 1;
  const share = (value: number) =>
    logarithmic ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
  const x = (value: number) => (left + share(value) * (width - left - right)).toFixed(1);
  const bottom = top + rows.length * rowHeight;
  const ticks = logarithmic ? decades(from, to) : steps(to);
  const body = [
    `<text x="12" y="20" font-weight="600">${escaped(name)}, ${escaped(unit)}</text>`,
    ...ticks.map(
      (tick) =>
        `<line x1="${x(tick)}" x2="${x(tick)}" y1="${top}" y2="${bottom}" stroke="#e3e5e8"/>` +
        `<text x="${x(tick)}" y="${bottom + 16}" text-anchor="middle" fill="#5b6068">${tick}</text>`,
    ),
    ...rows.flatMap(({ series, colour, values }, row) => {
      const y = top + (row + 0.5) * rowHeight;
      const median = [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
      return [
        `<text x="12" y="${y + 4}" fill="${colour}">${series} (${values.length})</text>`,
        ...values.map((value, i) => {
          const spread = (((i * 7919) % 21) - 10) * 1.3; // The same picture for the same samples.
          return `<circle cx="${x(value)}" cy="${(y + spread).toFixed(1)}" r="2.5" fill="${colour}" fill-opacity="0.45"/>`;
        }),
        `<line x1="${x(median)}" x2="${x(median)}" y1="${y - 17}" y2="${y + 17}" stroke="${colour}" stroke-width="2"/>`,
      ];
    }),
    ...(limit.median === undefined
      ? []
      : [
          `<line x1="${x(limit.median)}" x2="${x(limit.median)}" y1="${top}" y2="${bottom}" stroke="#b00020" stroke-dasharray="4 3"/>`,
        ]),
  ];
  const height = bottom + 26;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>${body.join("")}</svg>\n`;
}

/** Up to six round numbers from zero on. */
function steps(to: number): number[] {
  const rough = to / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough) ?? rough;
  return Array.from({ length: Math.floor(to / step) + 1 }, (_, i) => Number((i * step).toPrecision(12)));
}

function decades(from: number, to: number): number[] {
  const first = Math.ceil(Math.log10(from));
  const count = Math.floor(Math.log10(to)) - first + 1;
  return Array.from({ length: count }, (_, i) => Number((10 ** (first + i)).toPrecision(12)));
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
