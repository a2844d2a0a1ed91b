/** Sizes and durations as people write them. */

const sizeUnits: Record<string, number> = {
  "": 1,
  b: 1,
  k: 1024,
  kb: 1000,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1000 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1000 ** 3,
  gib: 1024 ** 3,
  t: 1024 ** 4,
  tb: 1000 ** 4,
  tib: 1024 ** 4,
};

/**
 * `512MiB`, `1.5G`, `4096`: bytes. One letter alone means powers of 1024, as in Docker.
 * @returns undefined for anything else, and for what is no whole number of bytes
 */
export function parseBytes(text: string): number | undefined {
  const [, digits = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const factor = sizeUnits[unit.toLowerCase()];
  if (digits === "" || factor === undefined) return undefined;
  const bytes = Number(digits) * factor;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const durationUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `1m30s`, `250ms`, `90s`: milliseconds. A number needs its unit. */
export function parseDurationMs(text: string): number | undefined {
  const compact = text.replaceAll(/\s+/g, "");
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(compact)) return undefined;
  let totalMs = 0;
  for (const [, digits, unit] of compact.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    totalMs += Number(digits) * (durationUnits[unit ?? ""] ?? Number.NaN);
  }
  return totalMs;
}

/** The other way round: `parseBytes(formatBytes(n)) === n`. */
export function formatBytes(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const factor = sizeUnits[unit.toLowerCase()] ?? 1;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}
