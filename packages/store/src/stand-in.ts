import type { Digest } from "@sporelet/page-image";
import type { SnapshotConfig } from "./config.ts";
import { isDigest } from "./digest-name.ts";

/**
 * The snapshot that this one stands in for: it was booted from that one's kernel and disk and frozen here,
 * because that one's state cannot be restored on this host. Its recipe says so, and why.
 */
export function standsInFor({ recipe }: Pick<SnapshotConfig, "recipe">): Digest | undefined {
  if (typeof recipe !== "object" || recipe === null) return undefined;
  const { from, why } = recipe as { from?: unknown; why?: unknown };
  return typeof why === "string" && isDigest(from) ? from : undefined;
}
