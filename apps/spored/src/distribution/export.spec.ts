import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import type { StoredSnapshot } from "@sporelet/store";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestNode, type TestNode } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { exportTo } from "./testing/transfers.ts";

describe("an export", () => {
  let node: TestNode;
  let [one, two] = [] as unknown as StoredSnapshot[];

  beforeAll(async () => {
    node = await startTestNode();
    one = await storeMadeUp(node.home, "one", { ownBytes: 4096 });
    two = await storeMadeUp(node.home, "two", { ownBytes: 4096 });
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const names = ["config", "disk", "initramfs", "kernel", "mem", "vmstate"].map(
    (ending) => `layer1.${ending}`,
  );
  const inside = async (directory: string) => (await readdir(directory)).sort();
  /** What the files in a directory are, by their config and their state. */
  const expectSnapshot = async (directory: string, snapshot: StoredSnapshot | undefined) => {
    for (const [file, stored] of [
      ["layer1.config", "config.json"],
      ["layer1.vmstate", "vmstate"],
    ] as const) {
      const written = await readFile(path.join(directory, file));
      expect(written.equals(await readFile(path.join(snapshot?.directory ?? "", stored)))).toBe(true);
    }
  };

  it("replaces all of another one when it is forced, also what the new one does not have", async () => {
    await using directory = await temporaryDirectory();
    await exportTo(node.client, { snapshot: "one", directory: directory.path });
    await writeFile(path.join(directory.path, "layer1.workingset"), "of a third one");
    await writeFile(path.join(directory.path, "notes"), "of somebody");
    await exportTo(node.client, { snapshot: "two", directory: directory.path, force: true });
    expect(await inside(directory.path)).toEqual([...names, "notes"]);
    await expectSnapshot(directory.path, two);
  });

  it("does not mix with files that it does not write itself", async () => {
    await using directory = await temporaryDirectory();
    await writeFile(path.join(directory.path, "layer1.workingset"), "of another one");
    const exported = exportTo(node.client, { snapshot: "one", directory: directory.path });
    await expect(exported).rejects.toMatchObject({ code: "already_exists" });
    expect(await inside(directory.path)).toEqual(["layer1.workingset"]);
  });

  it("removes what one left that was killed, and nothing else that is hidden", async () => {
    await using directory = await temporaryDirectory();
    for (const name of [".layer1.mem.0123456789ab", ".layer1.config.ffffffffffff", ".layer1.notes"]) {
      await writeFile(path.join(directory.path, name), "");
    }
    await exportTo(node.client, { snapshot: "one", directory: directory.path });
    expect(await inside(directory.path)).toEqual([".layer1.notes", ...names]);
  });

  it("that fails leaves what was there", async () => {
    await using directory = await temporaryDirectory();
    await exportTo(node.client, { snapshot: "one", directory: directory.path });
    const broken = await storeMadeUp(node.home, "broken", { ownBytes: 4096 });
    await rm(broken.files.initramfs ?? "");
    const request = { snapshot: "broken", directory: directory.path, force: true };
    await expect(exportTo(node.client, request)).rejects.toMatchObject({ code: "not_found" });
    expect(await inside(directory.path)).toEqual(names);
    await expectSnapshot(directory.path, one);
    await node.client.removeSnapshot({ snapshot: "broken" });
  });

  it("into a directory that another one goes to waits for that", async () => {
    await using directory = await temporaryDirectory();
    const request = { directory: directory.path, force: true };
    await Promise.all(
      ["one", "two", "one"].map((snapshot) => exportTo(node.client, { ...request, snapshot })),
    );
    expect(await inside(directory.path)).toEqual(names);
    const { source } = JSON.parse(await readFile(path.join(directory.path, "layer1.config"), "utf8"));
    await expectSnapshot(directory.path, source === "one" ? one : two);
  });
});
