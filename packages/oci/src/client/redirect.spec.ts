import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { blobOf, collect, startTestRegistry, type TestRegistryOptions } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";

const bytes = randomBytes(100_000);
const blob = blobOf(bytes);
const always = { on: "registry GET /blobs/", times: Number.POSITIVE_INFINITY };

async function start(options: TestRegistryOptions) {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(await startTestRegistry(options));
  const credentials = { get: async () => ({ username: "me", password: "secret" }) };
  const client = stack.use(createRegistryClient({ credentials, retries: { firstDelayMs: 1 } }));
  registry.put("hello", bytes);
  const repository = client.repository(registry.address, "hello");
  return { registry, repository, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

describe("a redirect to another origin", () => {
  it.each(["basic", "token"] as const)("is followed without the credentials (%s)", async (kind) => {
    await using test = await start({
      auth: { kind, username: "me", password: "secret" },
      faults: [{ ...always, redirect: true }],
    });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blobOf(bytes));
    const [stored] = test.registry.asked("storage GET");
    expect(stored?.headers.authorization).toBeUndefined();
    expect(test.registry.asked("registry GET").at(-1)?.headers.authorization).toBeDefined();
  });

  it("is remembered for further parts, and asked for anew once it has expired", async () => {
    await using test = await start({ faults: [{ ...always, redirect: true }] });
    const part = async (offset: number) => collect(test.repository.streamBlob(blob, { offset, length: 10 }));
    for (const offset of [0, 10, 20])
      expect(blobOf(await part(offset))).toEqual(blobOf(bytes.subarray(offset, offset + 10)));
    expect(test.registry.asked("registry GET")).toHaveLength(1);
    test.registry.expireRedirects();
    expect(blobOf(await part(30))).toEqual(blobOf(bytes.subarray(30, 40)));
    expect(test.registry.asked("registry GET")).toHaveLength(2);
    expect(test.registry.asked("storage GET").map(({ status }) => status)).toEqual([206, 206, 206, 403, 206]);
  });

  it("is asked for anew when nobody answers any more at the one that is remembered", async () => {
    await using test = await start({});
    await using gone = await startTestRegistry();
    gone.put("hello", bytes);
    const address = `http://${gone.address}/v2/hello/blobs/${blob.digest}`;
    test.registry.faults.add(
      { on: "registry GET /blobs/", redirect: address },
      { ...always, redirect: true },
    );
    const part = async (offset: number) => collect(test.repository.streamBlob(blob, { offset, length: 10 }));
    await part(0);
    expect(gone.requests).toHaveLength(1);
    await gone.stop();
    expect(blobOf(await part(10))).toEqual(blobOf(bytes.subarray(10, 20)));
    expect(test.registry.asked("registry GET")).toHaveLength(2);
    expect(test.registry.asked("storage GET")).toHaveLength(1);
  });

  it.each([400, 403])("is asked for once more when it answers %i, and then believed", async (status) => {
    await using test = await start({
      faults: [
        { ...always, redirect: true },
        { on: "storage", status, times: Number.POSITIVE_INFINITY },
      ],
    });
    await expect(test.repository.readBlob(blob)).rejects.toThrow(
      `${test.registry.storageAddress} answered ${status}`,
    );
    expect(test.registry.asked("registry GET")).toHaveLength(2);
  });

  it("is not followed with HEAD, which object stores refuse, to see whether a blob is there", async () => {
    const faults = [
      { on: "registry HEAD", redirect: true, times: 2 },
      { ...always, redirect: true },
    ];
    await using test = await start({ faults });
    expect(await test.repository.hasBlob(blob.digest)).toBe(true);
    expect(await test.repository.hasBlob(blobOf(randomBytes(9)).digest)).toBe(false);
    expect(test.registry.asked("storage HEAD")).toHaveLength(0);
  });

  it("is asked for anew when the read goes on after a drop", async () => {
    await using test = await start({
      faults: [
        { ...always, redirect: true },
        { on: "storage", dropAfterBytes: 60_000 },
      ],
    });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blobOf(bytes));
  });

  it.each([
    [
      "in circles",
      (address: string) => `http://${address}/v2/hello/blobs/${blob.digest}`,
      "more than 5 redirects",
    ],
    ["to plain HTTP elsewhere", () => "http://storage.example/x", "leads to plain HTTP at storage.example"],
    ["to a file", () => "file:///etc/passwd", "leads to a file: address"],
    ["to nothing", () => "http://", "a Location that is not a URL"],
    ["to an address with a password", () => "http://a:b@127.0.0.1/x", "an address with a password in it"],
  ])("is not followed %s", async (_, location, reason) => {
    await using test = await start({});
    test.registry.faults.add({ ...always, redirect: location(test.registry.address) });
    await expect(test.repository.readBlob(blob)).rejects.toThrow(reason);
  });
});
