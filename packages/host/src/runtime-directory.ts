import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/**
 * Eight hex digits that stand for a SPORELET_HOME in the names of what belongs to it outside of it: sockets,
 * network namespaces.
 */
export function ownerOf(home: string): string {
  return createHash("sha256").update(resolve(home)).digest("hex").slice(0, 8);
}

/**
 * The directory for the sockets of a SPORELET_HOME. Its path is short whatever the home's is: a Unix socket's
 * path holds at most 107 bytes (unix(7)). It is not created, see `makeRuntimeDirectory`.
 */
export function runtimeDirectoryOf(home: string): string {
  return join(runtimeRoot(), ownerOf(home));
}

/** Creates `runtimeDirectoryOf(home)`, for this user alone, and returns its path. */
export async function makeRuntimeDirectory(home: string): Promise<string> {
  const path = runtimeDirectoryOf(home);
  await mkdir(path, { recursive: true, mode: 0o700 });
  return path;
}

function runtimeRoot(): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return "/run/sporelet";
  const { XDG_RUNTIME_DIR } = process.env;
  return XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, "sporelet") : join(tmpdir(), `sporelet-${uid}`);
}
