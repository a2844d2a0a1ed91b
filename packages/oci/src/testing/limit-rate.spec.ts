import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { createRegistryClient } from "../client/client.ts";
import { blobOf, collect, limitRate, sourceOf, startTestRegistry } from "./index.ts";
import { tokenBucket } from "./limit-rate.ts";

describe("limitRate", () => {
  it("passes everything on unchanged, in both directions, and counts it", async () => {
    await using registry = await startTestRegistry();
    await using link = await limitRate({ target: registry.address, bitsPerSecond: 400_000_000 });
    await using client = createRegistryClient({ chunkBytes: 500_000 });
    const bytes = randomBytes(2_000_000);
    const repository = client.repository(link.address, "hello");
    await repository.pushBlob(sourceOf(bytes));
    expect(blobOf(await collect(repository.streamBlob(blobOf(bytes))))).toEqual(blobOf(bytes));
    expect(link.sentBytes).toBeGreaterThan(bytes.length);
    expect(link.sentBytes).toBeLessThan(1.1 * bytes.length);
  });

  it("ends the other side's connection when one side ends, or is not there", async () => {
    await using link = await limitRate({ target: "127.0.0.1:1", bitsPerSecond: 1_000_000 });
    const [host = "", port = ""] = link.address.split(":");
    const socket = connect(Number(port), host);
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("close", resolve));
    expect(link.sentBytes).toBe(0);
  });
});

describe("a token bucket", () => {
  it("lets as much through as a link of that speed", () => {
    const bucket = tokenBucket(1_000_000);
    let nowMs = 5000;
    for (let sent = 0; sent < 1_000_000; sent += 10_000) nowMs += bucket.delayFor(10_000, nowMs);
    // One second, but for the burst at its beginning.
    expect(nowMs - 5000).toBeCloseTo(1000 - 10);
  });

  it("does not save up what was not used", () => {
    const bucket = tokenBucket(1_000_000);
    bucket.delayFor(10_000, 0);
    expect(bucket.delayFor(10_000, 60_000)).toBe(0);
    expect(bucket.delayFor(10_000, 60_000)).toBeCloseTo(10);
  });
});
