/** What the demo measured, as out/demo.json holds it. Times in milliseconds. */
export interface Figures {
  /** From the boot command to the first HTTP response. */
  coldBootMs: number;
  /** When that was measured: in this run, or in the earlier one that measured the same snapshot. */
  coldBootAt: string;
  /** Digest of the snapshot that all of this is about. */
  snapshot: string;
  /** In the order of their start. */
  resumes: {
    /** From the arrival of the request at spored to a unique, reachable clone. */
    readyMs: number;
    /** From the request to the first HTTP response. */
    firstResponseMs: number;
    stages: { slot: number; load: number; agent: number; ready: number };
  }[];
  /** Cold boot to first response over the median resume to first response. */
  ratio: number;
  /** Median of the clones' proportional set sizes: shared pages are counted once for all. */
  pssBytesPerClone: number;
}

export const cloneCount = 3;

/** The figures as a table for people. */
export function table(figures: Figures): string {
  const ms = (value: number): string => `${value.toFixed(0)} ms`;
  const rows: [string, string][] = [
    ["cold boot to first response", `${ms(figures.coldBootMs)}  (measured ${figures.coldBootAt})`],
  ];
  for (const [i, { readyMs, firstResponseMs, stages }] of figures.resumes.entries()) {
    const parts = `slot ${ms(stages.slot)}, load ${ms(stages.load)}, agent ${ms(stages.agent)}, ready ${ms(stages.ready)}`;
    rows.push([`clone ${i + 1}: resume to ready`, `${ms(readyMs)}  (${parts})`]);
    rows.push([`clone ${i + 1}: resume to first response`, ms(firstResponseMs)]);
  }
  rows.push(["cold boot / resume, to first response", `${figures.ratio.toFixed(0)} times`]);
  rows.push(["memory per clone (PSS)", `${(figures.pssBytesPerClone / 2 ** 20).toFixed(1)} MiB`]);
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`).join("\n");
}
