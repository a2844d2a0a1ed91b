import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { connectNode, type NodeClient, sporeletHome } from "@sporelet/api";
import type { Line } from "./report.ts";

/** What a part of the suite works with. */
export interface Suite {
  /** Name of the snapshot of examples/hello-compose, which is in the store. */
  snapshot: string;
  /** Its files. */
  directory: string;
  /** How often something is repeated: as often as is good for it, unless BENCH_RUNS says otherwise. */
  runs(usual: number): number;
  /** A spored that nobody talks to ends after a minute: each part connects for itself. */
  connected<T>(work: (node: NodeClient) => Promise<T>): Promise<T>;
}

/** A part of the suite. */
export type Part = (suite: Suite) => Promise<Line[]>;

/** Port of the demo's HTTP API in its guest. */
export const guestPort = 8080;

const top = join(import.meta.dirname, "..");

/** Builds the demo's snapshot, unless it was built before. */
export async function openSuite(): Promise<Suite> {
  const snapshot = process.env.BENCH_SNAPSHOT ?? "hello";
  if (process.env.BENCH_SNAPSHOT === undefined) {
    execFileSync(join(top, "dist/sporectl"), ["build", join(top, "examples/hello-compose"), "-t", snapshot], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  const connected = async <T>(work: (node: NodeClient) => Promise<T>) => {
    using node = await connectNode(sporeletHome());
    return await work(node);
  };
  const { directory } = await connected((node) => node.inspectSnapshot({ snapshot }));
  return {
    snapshot,
    directory,
    runs: (usual) => Number(process.env.BENCH_RUNS ?? usual),
    connected,
  };
}
