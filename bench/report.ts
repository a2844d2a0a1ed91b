import { median, quantile } from "./statistics.ts";

interface Distribution {
  min: number;
  median: number;
  p99: number;
  n: number;
}

/** Upper bounds; what is named has to hold. */
interface Limit {
  median?: number;
  p99?: number;
  ratioToFloor?: number;
  ratioToAlternative?: number;
}

/** One line of out/bench.json. */
export interface Line {
  name: string;
  unit: string;
  ours: Distribution;
  floor: Distribution | null;
  alternative: Distribution | null;
  /** Of the medians. */
  ratioToFloor: number | null;
  ratioToAlternative: number | null;
  limit: Limit;
  holds: boolean;
}

/** What a line is computed from. */
export interface Samples {
  name: string;
  unit: string;
  ours: number[];
  floor?: number[];
  alternative?: number[];
  limit: Limit;
}

/** Sums samples up and compares them with their limit. A figure that could not be computed does not hold. */
export function line(samples: Samples): Line {
  const { name, unit, limit } = samples;
  const ours = distribution(samples.ours);
  const floor = samples.floor === undefined ? null : distribution(samples.floor);
  const alternative = samples.alternative === undefined ? null : distribution(samples.alternative);
  const ratioToFloor = floor === null ? null : ours.median / floor.median;
  const ratioToAlternative = alternative === null ? null : ours.median / alternative.median;
  const holds =
    within(ours.median, limit.median) &&
    within(ours.p99, limit.p99) &&
    within(ratioToFloor, limit.ratioToFloor) &&
    within(ratioToAlternative, limit.ratioToAlternative);
  const result = { name, unit, ours, floor, alternative, ratioToFloor, ratioToAlternative, limit, holds };
  measured.set(result, samples);
  return result;
}

const measured = new WeakMap<Line, Samples>();

/** What a line of this run was computed from. */
export function samplesOf(entry: Line): Samples | undefined {
  return measured.get(entry);
}

/** The lines as a Markdown table. */
export function markdown(lines: readonly Line[]): string {
  const rows = lines.map((entry) =>
    [
      entry.name,
      `${number(entry.ours.median)} ${entry.unit} (${number(entry.ours.min)} to ${number(entry.ours.p99)}, n=${entry.ours.n})`,
      entry.floor === null ? "" : `${number(entry.floor.median)} ${entry.unit}`,
      entry.alternative === null ? "" : `${number(entry.alternative.median)} ${entry.unit}`,
      ratio(entry.ratioToFloor),
      ratio(entry.ratioToAlternative),
      describe(entry.limit),
      entry.holds ? "yes" : "**no**",
    ].join(" | "),
  );
  return [
    "| what | ours: median (min to p99) | floor | alternative | to floor | to alternative | limit | holds |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.map((row) => `| ${row} |`),
    "",
  ].join("\n");
}

function distribution(values: number[]): Distribution {
  return { min: quantile(values, 0), median: median(values), p99: quantile(values, 0.99), n: values.length };
}

function within(value: number | null, limit: number | undefined): boolean {
  // Written so that NaN does not hold.
  return limit === undefined || (value !== null && value <= limit);
}

function describe(limit: Limit): string {
  const parts = [
    limit.median === undefined ? undefined : `median ≤ ${limit.median}`,
    limit.p99 === undefined ? undefined : `p99 ≤ ${limit.p99}`,
    limit.ratioToFloor === undefined ? undefined : `≤ ${limit.ratioToFloor} × floor`,
    limit.ratioToAlternative === undefined ? undefined : share(limit.ratioToAlternative),
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

function share(ratioToAlternative: number): string {
  return ratioToAlternative < 0.9
    ? `≤ 1/${Math.round(1 / ratioToAlternative)} of the alternative`
    : `≤ ${ratioToAlternative} × the alternative`;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function ratio(value: number | null): string {
  if (value === null) return "";
  return value < 0.1 ? `1/${Math.round(1 / value)}` : value.toFixed(2);
}
