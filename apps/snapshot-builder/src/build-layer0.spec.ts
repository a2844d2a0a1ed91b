import { execFileSync } from "node:child_process";
import { access, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore, type Store } from "@sporelet/store";
import { createQemu, type Probe } from "@sporelet/vmm";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { type BuildOptions, buildSnapshot } from "./build.ts";
import type { BuildEvent } from "./events.ts";
import { readAgent } from "./layer0/agent.ts";

// Real packages, a real kernel, a real guest: some seconds each under software emulation.
const timeoutMs = 300_000;
const probe: Probe = { driver: "qemu", version: "test", accelerators: ["tcg"], problems: [] };
let directory: string;
let store: Store;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sporelet-build-"));
  await mkdir(join(directory, "run"));
  store = await openStore({ root: join(directory, "store") });
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function needs(context: TestContext): Promise<void> {
  for (const [program, option] of [
    ["qemu-system-x86_64", "--version"],
    ["apt-get", "--version"],
    ["depmod", "-V"],
  ] as const) {
    try {
      execFileSync(program, [option], { stdio: "ignore" });
    } catch {
      context.skip(`${program} is not installed`);
    }
  }
  await readAgent().catch(() => context.skip("the guest agent was not built (tools/build-agent)"));
}

function build(options: Partial<BuildOptions> = {}) {
  return buildSnapshot({
    path: directory,
    layer: 0,
    store,
    vmm: createQemu(),
    probe,
    network: async () => ({
      backend: { kind: "user", forwards: [] },
      guest: {
        mac: "52:54:00:6b:00:02",
        address: "10.107.0.2/24",
        gateway: "10.107.0.1",
        dns: ["10.107.0.3"],
      },
      release: async () => {},
    }),
    runtimeDirectory: join(directory, "run"),
    ...options,
  });
}

/** Processes that work for this test, and half-made things. */
async function leftovers(): Promise<string[]> {
  const found = [...(await readdir(join(directory, "run"))), ...(await readdir(join(store.root, "tmp")))];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (Number(pid) !== process.pid && words.includes(directory)) found.push(words.replaceAll("\0", " "));
  }
  return found;
}

describe("building Layer 0", () => {
  it("that is called off while the guest boots leaves nothing but what was finished", {
    timeout: timeoutMs,
  }, async (context) => {
    await needs(context);
    const abort = new AbortController();
    const onEvent = (event: BuildEvent) => {
      if (event.case === "step" && event.id === "boot") setImmediate(() => abort.abort());
    };
    await expect(build({ signal: abort.signal, onEvent })).rejects.toMatchObject({ code: "cancelled" });
    expect(await leftovers()).toEqual([]);
    expect(await store.list()).toEqual([]);
  });

  it("gives a frozen machine whose parts are all there", { timeout: timeoutMs }, async (context) => {
    await needs(context);
    const events: BuildEvent[] = [];
    const snapshot = await build({ tag: "zero", onEvent: (event) => events.push(event) });
    expect(snapshot.tags).toEqual(["zero:latest"]);
    expect(snapshot.config).toMatchObject({ layer: 0, shape: { disks: 0, network: "user" }, services: [] });
    expect(snapshot.config.files.memory.usedBytes).toBeLessThan(snapshot.config.files.memory.sizeBytes / 2);
    await Promise.all(Object.values(snapshot.files).map((path) => access(path)));
    const done = events.flatMap((event) =>
      event.case === "step" && event.state === "done" ? [event.id] : [],
    );
    expect(done.slice(-3)).toEqual(["boot", "freeze", "store"]);
    expect(await leftovers()).toEqual([]);
  });

  it("is not done again for the same things, and is after the snapshot was removed", {
    timeout: timeoutMs,
  }, async (context) => {
    await needs(context);
    const first = await store.resolve("zero");
    const events: BuildEvent[] = [];
    const again = await build({ tag: "nil", onEvent: (event) => events.push(event) });
    expect(again.digest).toBe(first.digest);
    expect(again.tags.sort()).toEqual(["nil:latest", "zero:latest"]);
    expect(events.filter((event) => event.case === "step" && event.id === "boot")).toEqual([]);
    await store.remove("nil");
    await store.remove("zero");
    expect((await build({ tag: "zero" })).digest).not.toBe(first.digest);
  });
});
