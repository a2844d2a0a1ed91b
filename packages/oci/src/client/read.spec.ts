import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { blobOf, collect, type Fault, startTestRegistry } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";

const bytes = randomBytes(1_000_000);
const blob = blobOf(bytes);

/** A registry with one blob and some faults, and a client that does not wait long between its attempts. */
async function start(...faults: Fault[]) {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(await startTestRegistry({ faults }));
  const retried: string[] = [];
  const client = stack.use(
    createRegistryClient({
      retries: { firstDelayMs: 1 },
      // Short only where it is to expire: this process can be held up for as long as others want.
      idleTimeoutMs: faults.some((fault) => fault.stallAfterBytes !== undefined) ? 3000 : 60_000,
      onRetry: (why) => retried.push(why),
    }),
  );
  registry.put("hello", bytes);
  const repository = client.repository(registry.address, "hello");
  const dispose = () => stack.disposeAsync();
  return { registry, repository, retried, [Symbol.asyncDispose]: dispose };
}

describe("reading a blob", () => {
  it("goes on at the byte where a connection dropped, as often as it takes", async () => {
    await using test = await start({ on: "GET /blobs/", dropAfterBytes: 90_000, times: 20 });
    expect(blobOf(await collect(test.repository.streamBlob(blob)))).toEqual(blobOf(bytes));
    const begins = test.registry
      .asked("GET /blobs/")
      .map(({ headers }) => Number(/^bytes=(\d+)-999999$/.exec(headers.range ?? "bytes=0-999999")?.[1]));
    expect(begins.length).toBeGreaterThan(10);
    expect(begins).toEqual([...begins].sort((a, b) => a - b));
    expect(begins.at(-1)).toBeGreaterThan(800_000);
    expect(test.retried.length).toBe(begins.length - 1);
  });

  it("gives up when nothing more arrives", async () => {
    await using test = await start({ on: "GET /blobs/", dropAfterBytes: 0, times: Number.POSITIVE_INFINITY });
    await expect(collect(test.repository.streamBlob(blob))).rejects.toMatchObject({
      code: "unavailable",
      operation: "read the blob",
      subject: `${test.registry.address}/hello@${blob.digest}`,
    });
    expect(test.registry.asked("GET /blobs/")).toHaveLength(6);
  });

  it.each([408, 429, 500, 502, 503, 504])("tries again after %i", async (status) => {
    await using test = await start({ on: "GET /blobs/", status, headers: { "retry-after": "0" }, times: 3 });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blobOf(bytes));
    expect(test.registry.asked("GET /blobs/").map((request) => request.status)).toEqual([
      status,
      status,
      status,
      200,
    ]);
  });

  it("leaves a registry alone for as long as it asks to be", async () => {
    await using test = await start({ on: "GET /blobs/", status: 429, headers: { "retry-after": "1" } });
    const began = performance.now();
    await test.repository.readBlob(blob);
    expect(performance.now() - began).toBeGreaterThan(999);
  });

  it("says how long a registry asks to be left alone when it does not wait for that", async () => {
    await using test = await start({ on: "GET /blobs/", status: 429, headers: { "retry-after": "3600" } });
    await expect(test.repository.readBlob(blob)).rejects.toMatchObject({
      code: "unavailable",
      reason: expect.stringContaining("it asks to wait 60 min before the next attempt"),
    });
    expect(test.registry.asked("GET /blobs/")).toHaveLength(1);
  });

  it("shows what a registry said when it gave up", async () => {
    await using test = await start({
      on: "GET /blobs/",
      times: Number.POSITIVE_INFINITY,
      status: 503,
      body: '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\\u001b[31m down"}]}',
    });
    await expect(test.repository.readBlob(blob)).rejects.toMatchObject({
      code: "unavailable",
      reason: `${test.registry.address} answered 503: TOOMANYREQUESTS: slow [31m down`,
    });
  });

  it.each([400, 403, 404, 410])("does not try again after %i", async (status) => {
    await using test = await start({ on: "GET /blobs/", status });
    await expect(test.repository.readBlob(blob)).rejects.toMatchObject({
      code: {
        400: "failed_precondition",
        403: "permission_denied",
        404: "not_found",
        410: "failed_precondition",
      }[status],
    });
    expect(test.registry.asked("GET /blobs/")).toHaveLength(1);
  });

  it("does not wait for ever for a connection on which nothing moves", async () => {
    await using test = await start({ on: "GET /blobs/", stallAfterBytes: 300_000 });
    expect(blobOf(await collect(test.repository.streamBlob(blob)))).toEqual(blobOf(bytes));
    expect(test.retried).toEqual([expect.stringContaining("nothing moved on the connection")]);
  });

  it("reads parts from a registry without ranges, and remembers that it has none", async () => {
    await using test = await start({ on: "GET /blobs/", ignoreRange: true, times: Number.POSITIVE_INFINITY });
    const { repository } = test;
    const part = async (offset: number, length: number) =>
      collect(repository.streamBlob(blob, { offset, length }));
    expect(repository.servesRanges).toBeUndefined();
    expect(blobOf(await part(400_000, 1000))).toEqual(blobOf(bytes.subarray(400_000, 401_000)));
    expect(repository.servesRanges).toBe(false);
    expect(blobOf(await part(999_000, 1000))).toEqual(blobOf(bytes.subarray(999_000)));
    const ranges = test.registry.asked("GET /blobs/").map(({ headers }) => headers.range);
    expect(ranges).toEqual(["bytes=400000-400999", undefined]);
  });

  it("goes on after a drop without ranges too", async () => {
    await using test = await start(
      { on: "GET /blobs/", dropAfterBytes: 500_000 },
      { on: "GET /blobs/", ignoreRange: true },
    );
    expect(blobOf(await collect(test.repository.streamBlob(blob)))).toEqual(blobOf(bytes));
  });

  it("names a wrong Content-Range", async () => {
    await using test = await start({ on: "GET /blobs/", shiftRangeBytes: 4096 });
    const stream = test.repository.streamBlob(blob, { offset: 0, length: 100 });
    await expect(collect(stream)).rejects.toMatchObject({
      code: "corrupt",
      reason: expect.stringContaining('"bytes 4096-4195/1000000" where "bytes 0-99/1000000" was asked for'),
    });
  });

  it.each<[string, Fault, string]>([
    ["is shorter than described", { truncateToBytes: 1000 }, "has 1000 bytes of it, not 1000000"],
    ["is longer than described", { appendBytes: 10 }, "sends more than its 1000000 bytes"],
    ["differs from its digest", { damage: true }, "what the registry sent has the digest sha256:"],
    ["comes in another encoding", { headers: { "content-encoding": "gzip" } }, 'in the encoding "gzip"'],
  ])("refuses content that %s", async (_, fault, reason) => {
    await using test = await start({ on: "GET /blobs/", ...fault });
    await expect(test.repository.readBlob(blob).then(blobOf)).rejects.toMatchObject({
      code: "corrupt",
      reason: expect.stringContaining(reason),
    });
  });

  it("refuses a size before it allocates anything for it", async () => {
    await using test = await start();
    const huge = { ...blob, size: 2 ** 50 };
    await expect(test.repository.readBlob(huge)).rejects.toMatchObject({ code: "corrupt" });
    expect(test.registry.requests).toHaveLength(0);
  });

  it("refuses parts that lie outside of the blob", async () => {
    await using test = await start();
    const outside = test.repository.streamBlob(blob, { offset: 999_999, length: 2 });
    await expect(collect(outside)).rejects.toMatchObject({ code: "invalid_argument" });
  });

  it("says so when the registry has less than is asked for", async () => {
    await using test = await start();
    const stream = test.repository.streamBlob({ ...blob, size: 2_000_000 }, { offset: 1_500_000 });
    await expect(collect(stream)).rejects.toMatchObject({
      code: "corrupt",
      reason: expect.stringContaining("has fewer than its 2000000 bytes"),
    });
  });

  it("stops at once when it is cancelled, while it reads and while it waits", async () => {
    await using test = await start({
      on: "GET /blobs/",
      stallAfterBytes: 100_000,
      times: Number.POSITIVE_INFINITY,
    });
    const controller = new AbortController();
    const stream = test.repository.streamBlob(blob, { signal: controller.signal });
    const reading = (async () => {
      for await (const _ of stream) controller.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: "cancelled" });
    const late = collect(test.repository.streamBlob(blob, { signal: controller.signal }));
    await expect(late).rejects.toMatchObject({ code: "cancelled" });
  });

  it("ends the transfer when the reader has enough", async () => {
    await using test = await start({ on: "GET /blobs/", bytesPerSecond: 2_000_000 });
    for await (const _ of test.repository.streamBlob(blob)) break;
    expect(test.registry.sentBytes(blob.digest)).toBeLessThan(bytes.length);
  });
});
