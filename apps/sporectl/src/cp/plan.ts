import path from "node:path";
import { SporeletError } from "@sporelet/errors";

export type Kind = "missing" | "file" | "directory";

export interface CopySource {
  /** As it was given. */
  path: string;
  /** A symbolic link to copy is a file. */
  kind: Kind;
  /** Its last component, once `.` and `..` are resolved; empty for the root. */
  base: string;
}

export interface CopyTarget {
  /** As it was given. */
  path: string;
  kind: Kind;
  /** The directory that holds it. */
  parentKind: Kind;
}

/** Where the source's entries go. */
export interface CopyPlan {
  /** An existing directory: the target itself, or the one that holds it. */
  directory: "target" | "parent";
  /** What the source is called there; undefined: its contents go right into the directory. */
  name: string | undefined;
}

/**
 * Decides what a copy makes of its target, as docker cp does (docs: "docker container cp", description).
 * @throws SporeletError not_found, failed_precondition or invalid_argument where a copy makes no sense
 */
export function planCopy(source: CopySource, target: CopyTarget): CopyPlan {
  const fail = (code: "not_found" | "failed_precondition", subject: string, reason: string, hint?: string) =>
    new SporeletError({
      code,
      operation: "copy",
      subject: `${source.path} to ${target.path}`,
      reason: `${subject} ${reason}`,
      hint,
    });
  if (source.kind === "missing") throw fail("not_found", source.path, "does not exist");
  if (source.kind === "file" && /\/\.?$/.test(source.path))
    throw fail("failed_precondition", source.path, "is not a directory");
  const contentsOnly = source.kind === "directory" && (/(^|\/)\.$/.test(source.path) || source.base === "");

  if (target.kind === "directory")
    return { directory: "target", name: contentsOnly ? undefined : source.base };
  if (target.kind === "file") {
    if (source.kind === "directory")
      throw fail("failed_precondition", target.path, "is a file, and a directory cannot replace it");
    if (target.path.endsWith("/")) throw fail("failed_precondition", target.path, "is not a directory");
    return { directory: "parent", name: path.posix.basename(target.path) };
  }
  if (target.parentKind !== "directory") {
    throw fail("not_found", path.posix.dirname(target.path), "is not an existing directory", "make it first");
  }
  if (source.kind === "file" && target.path.endsWith("/")) {
    throw fail(
      "not_found",
      target.path,
      "is not an existing directory",
      "make it first, or leave out the last /",
    );
  }
  return { directory: "parent", name: path.posix.basename(target.path) };
}
