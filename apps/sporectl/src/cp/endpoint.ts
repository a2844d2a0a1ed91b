import path from "node:path";
import { UsageError } from "../cli/usage.ts";

/** One side of a copy. */
export type Endpoint =
  | { kind: "stream" }
  | { kind: "local"; path: string }
  | { kind: "guest"; machine: string; path: string };

/**
 * Reads one argument of `cp`. `-` is a stream; what begins with `/` or `.` is a path on this host, else what
 * has a colon before any slash is `MACHINE:PATH`. A guest's path begins at its root.
 */
export function parseEndpoint(text: string): Endpoint {
  if (text === "-") return { kind: "stream" };
  if (text === "") throw new UsageError("a path is missing");
  const colon = text.indexOf(":");
  const slash = text.indexOf("/");
  if (colon < 1 || (slash >= 0 && slash < colon) || text.startsWith("."))
    return { kind: "local", path: text };
  const guestPath = text.slice(colon + 1);
  const machine = text.slice(0, colon);
  if (guestPath === "") throw new UsageError(`${text} names no path`, `for the guest's root: ${machine}:/`);
  // Joining would take a last "/." away, which means something here.
  return { kind: "guest", machine, path: path.posix.isAbsolute(guestPath) ? guestPath : `/${guestPath}` };
}
