/** One thing that `sporectl doctor` reports on. */
export interface Check {
  /** Stable: people's scripts ask for it. */
  id: string;
  title: string;
  /** degraded: it works, slower or less. missing: something will not work. */
  status: "ok" | "degraded" | "missing";
  /** What was found. */
  finding: string;
  /** A command or a sentence that mends it; empty when there is nothing to mend. */
  remedy: string;
}

export const ok = (id: string, title: string, finding: string): Check => ({
  id,
  title,
  status: "ok",
  finding,
  remedy: "",
});

export const degraded = (id: string, title: string, finding: string, remedy: string): Check => ({
  id,
  title,
  status: "degraded",
  finding,
  remedy,
});

export const missing = (id: string, title: string, finding: string, remedy: string): Check => ({
  id,
  title,
  status: "missing",
  finding,
  remedy,
});

export function readableBytes(bytes: number): string {
  const GiB = bytes / 1024 ** 3;
  return GiB >= 1 ? `${GiB.toFixed(GiB < 10 ? 1 : 0)} GiB` : `${Math.round(bytes / 1024 ** 2)} MiB`;
}
