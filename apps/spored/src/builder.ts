import { lstatSync } from "node:fs";

/** The builder of snapshots, loaded when it is needed: a spored that only resumes has no use for it. */
export async function loadBuilder() {
  // Run from its sources, by Node 24.9, a spored that found its volume mounted fails here: the loader takes the
  // link to the workspace's package for a directory in node_modules, whose TypeScript it refuses. It sees
  // the link again once the process has asked for the state of any file synchronously.
  lstatSync("/");
  return await import("@sporelet/snapshot-builder");
}
