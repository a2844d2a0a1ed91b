#!/usr/bin/env node
/**
 * Builds without spored, for those who work on the builder: `node src/cli.ts [--layer 0] [--no-cache]
 * [--store DIR] PATH [TAG]`.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { SporeletError } from "@sporelet/errors";
import { canUseNetns, createNetworkPool, guestNetwork, ownerOf } from "@sporelet/host";
import { openStore } from "@sporelet/store";
import { createQemu } from "@sporelet/vmm";
import { buildSnapshot } from "./build.ts";
import type { BuildEvent } from "./events.ts";
import { buildLayer0 } from "./layer0/build.ts";
import type { NetworkLease } from "./vm/network.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layer: { type: "string", default: "1" },
    "no-cache": { type: "boolean", default: false },
    store: { type: "string", default: "out/store" },
    verbose: { type: "boolean", short: "v", default: false },
  },
});
const [path = ".", tag] = positionals;
const cancelled = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => cancelled.abort());
// A VMM that is waited for does not keep this process alive by itself.
const alive = setInterval(() => {}, 60_000);

try {
  const cacheDirectory = join(values.store, "probe");
  await mkdir(cacheDirectory, { recursive: true });
  const store = await openStore({ root: values.store });
  const runtimeDirectory = `/tmp/sporelet-builder-${process.pid}`;
  await using cleanup = new AsyncDisposableStack();
  await mkdir(runtimeDirectory, { mode: 0o700 });
  cleanup.defer(async () => rm(runtimeDirectory, { recursive: true, force: true }));
  const vmm = createQemu();
  const { signal } = cancelled;
  const guest = await buildLayer0({ store, signal });
  const probe = await vmm.probe({ guest, cacheDirectory, signal });
  const snapshot = await buildSnapshot({
    path,
    tag,
    layer: values.layer === "0" ? 0 : 1,
    noCache: values["no-cache"],
    store,
    vmm,
    probe,
    network: () => network(store.root, cleanup),
    runtimeDirectory,
    signal,
    onEvent: print,
  });
  process.stdout.write(
    `${JSON.stringify({ digest: snapshot.digest, config: snapshot.config }, undefined, 2)}\n`,
  );
} catch (error) {
  const { message, hint, log } = SporeletError.from(error, { operation: "build", subject: path });
  process.stderr.write(`${[message, hint, log].filter(Boolean).join("\n")}\n`);
  process.exitCode = 1;
} finally {
  clearInterval(alive);
}

/** As root a network namespace like those of clones, otherwise the VMM's own network. */
async function network(root: string, cleanup: AsyncDisposableStack): Promise<NetworkLease> {
  if (!canUseNetns()) {
    const guest = { ...guestNetwork, dns: ["10.107.0.3"] };
    return { backend: { kind: "user", forwards: [] }, guest, release: async () => {} };
  }
  const pool = createNetworkPool({ owner: ownerOf(root), spare: 0 });
  cleanup.defer(() => pool.close());
  const taken = await pool.take();
  return {
    backend: { kind: "tap", netns: taken.netns, tap: taken.tap },
    guest: { ...guestNetwork, dns: taken.dns },
    release: () => pool.release(taken),
  };
}

function print(event: BuildEvent): void {
  if (event.case === "log") {
    if (values.verbose) process.stderr.write(`    ${event.source}: ${event.line}\n`);
    return;
  }
  const { title, state, fraction, elapsedMs, detail } = event;
  const share = fraction < 0 ? "" : `${Math.round(fraction * 100)}%`;
  process.stderr.write(
    `${(elapsedMs / 1000).toFixed(1).padStart(6)}s ${title} ${state} ${share} ${detail}\n`,
  );
}
