import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { createRegistryClient } from "@sporelet/oci";
import { type RecordedRequest, startTestRegistry } from "@sporelet/oci/testing";
import { openStore, type PublishedLayer } from "@sporelet/store";
import { describe, expect, it } from "vitest";
import { downloadBlob } from "./download.ts";
import { createReports } from "./reports.ts";

const bytes = randomBytes(1_000_000);

describe("a blob that two fetch at once", () => {
  it("is let go by the one that does not want it any more, while it still comes for the other", async () => {
    await using directory = await temporaryDirectory();
    await using registry = await startTestRegistry();
    await using client = createRegistryClient();
    const store = await openStore({ root: path.join(directory.path, "store") });
    const { mediaType, digest, size } = registry.put("hello", bytes);
    const layer: PublishedLayer = { file: "memory", mediaType, digest, sizeBytes: size, annotations: {} };
    const arriving = Promise.withResolvers<void>();
    const on = ({ method }: RecordedRequest) => {
      if (method === "GET") arriving.resolve();
      return method === "GET";
    };
    registry.faults.add({ on, stallAfterBytes: 500_000 });
    const [staying, leaving] = [new AbortController(), new AbortController()];
    const reports = createReports(() => {});
    const fetch = (signal: AbortSignal) =>
      downloadBlob(
        { store },
        client.repository(registry.address, "hello"),
        layer,
        reports.item("a", "a"),
        signal,
      );
    const first = fetch(staying.signal);
    first.catch(() => {});
    await arriving.promise;
    const second = fetch(leaving.signal);
    leaving.abort(new Error("gone"));
    await expect(second).rejects.toThrow("gone");
    expect(registry.asked("GET /blobs/")).toHaveLength(1);
    staying.abort(new Error("gone too"));
    await expect(first).rejects.toMatchObject({ code: expect.any(String) });
    await fetch(new AbortController().signal);
    expect(await readdir(path.join(store.root, "blobs"))).toEqual([digest.replace("sha256:", "")]);
  });
});
