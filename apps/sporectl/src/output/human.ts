const sizeUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `1.5 GiB`: binary units, three significant digits at most. */
export function humanBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  // 999.5 would round to 1000, which is wider than the next unit's figure.
  while (value >= 999.5 && unit < sizeUnits.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : significant(value)} ${sizeUnits[unit]}`;
}

/** `850 µs`, `84.2 ms`, `3.4 s`, `2m 05s`, `3h 12m`. */
export function humanMs(ms: number): string {
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 999.5) return `${significant(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return humanSpan(ms);
}

/** How long ago, coarsely: `now`, `5s`, `3m`, `2h`, `9d`, with a second unit where the first is small. */
export function humanAge(sinceMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - sinceMs) / 1000));
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}

/** `2026-01-02T03:04:05Z, 3m ago` */
export function humanTime(atMs: number, nowMs: number): string {
  const age = humanAge(atMs, nowMs);
  return `${new Date(atMs).toISOString().replace(/\.\d+Z$/, "Z")}, ${age === "now" ? age : `${age} ago`}`;
}

function humanSpan(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s`;
  const minutes = Math.floor(seconds / 60);
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

function significant(value: number): string {
  return value < 99.95 ? String(Number(value.toFixed(1))) : value.toFixed(0);
}

/** `sha256:` and the 12 digits that suffice to name a snapshot. */
export function shortDigest(digest: string): string {
  return digest.replace(/^(sha256:)?([0-9a-f]{12})[0-9a-f]*$/, "$2");
}
