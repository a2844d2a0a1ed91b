import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createRegistryClient } from "../client/client.ts";
import type { RegistryClientOptions } from "../client/options.ts";
import {
  blobOf,
  type Fault,
  type RecordedRequest,
  sourceOf,
  startDockerRegistry,
  startTestRegistry,
  type TestRegistryOptions,
  whyNoDockerRegistry,
} from "../testing/index.ts";
import type { UploadSessions } from "./push.ts";

const bytes = randomBytes(1_000_000);
const source = sourceOf(bytes);
const chunkBytes = 100_000;

async function start(
  faults: Fault[] = [],
  options: TestRegistryOptions = {},
  more: RegistryClientOptions = {},
) {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(await startTestRegistry({ faults, ...options }));
  const settings = {
    chunkBytes,
    singlePutBytes: 1000,
    retries: { firstDelayMs: 1 },
    lastChunkTimeoutMs: 60_000,
    ...more,
  };
  const another = () => stack.use(createRegistryClient(settings)).repository(registry.address, "hello");
  return { registry, repository: another(), another, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function sessionsInMemory(): UploadSessions & { map: Map<string, string> } {
  const map = new Map<string, string>();
  return {
    map,
    get: async (key) => map.get(key),
    set: async (key, session) => void map.set(key, session),
    delete: async (key) => void map.delete(key),
  };
}

type Test = Awaited<ReturnType<typeof start>>;
const stored = ({ registry }: Test) => registry.blobs.get(source.digest) ?? Buffer.alloc(0);
const uploaded = ({ registry }: Test) =>
  registry.asked("/uploads/").reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);

describe("pushing to docker-registry", () => {
  it("goes on in another process where one was cancelled", async (ctx) => {
    const reason = whyNoDockerRegistry();
    if (reason !== undefined) return ctx.skip(reason);
    await using registry = await startDockerRegistry();
    const push = async (signal: AbortSignal | undefined, onProgress: (sentBytes: number) => void) => {
      await using client = createRegistryClient({
        chunkBytes,
        singlePutBytes: 1000,
        lastChunkTimeoutMs: 60_000,
      });
      return await client
        .repository(registry.address, "hello")
        .pushBlob(source, { sessions, signal, onProgress });
    };
    const sessions = sessionsInMemory();
    const controller = new AbortController();
    const cut = push(controller.signal, (sentBytes) => void (sentBytes > 650_000 && controller.abort()));
    await expect(cut).rejects.toMatchObject({ code: "cancelled" });
    const progress: number[] = [];
    expect(await push(undefined, (sentBytes) => progress.push(sentBytes))).toBe("pushed");
    expect(progress[0]).toBe(700_000);
  });

  it("begins anew after a connection that was cut in the middle of a chunk", async (ctx) => {
    const reason = whyNoDockerRegistry();
    if (reason !== undefined) return ctx.skip(reason);
    await using registry = await startDockerRegistry();
    const options = { chunkBytes, singlePutBytes: 1000, lastChunkTimeoutMs: 0, retries: { firstDelayMs: 1 } };
    await using client = createRegistryClient(options);
    const repository = client.repository(registry.address, "hello");
    const sessions = sessionsInMemory();
    const controller = new AbortController();
    const onProgress = (sentBytes: number) => void (sentBytes > 650_000 && controller.abort());
    const cut = repository.pushBlob(source, { sessions, signal: controller.signal, onProgress });
    await expect(cut).rejects.toMatchObject({ code: "cancelled" });
    expect(await repository.pushBlob(source, { sessions })).toBe("pushed");
    expect(blobOf(await repository.readBlob(blobOf(bytes)))).toEqual(blobOf(bytes));
  });
});

describe("pushing a blob", () => {
  it("sends chunks, each to the newest Location, and then commits", async () => {
    await using test = await start();
    const progress: number[] = [];
    const pushed = await test.repository.pushBlob(source, {
      onProgress: (sentBytes) => progress.push(sentBytes),
    });
    expect(pushed).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    const ranges = test.registry.asked("PATCH").map(({ headers }) => headers["content-range"]);
    expect(ranges).toHaveLength(10);
    expect(ranges[9]).toBe("900000-999999");
    expect(progress.at(-1)).toBe(bytes.length);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
  });

  it("sends small blobs at once, and nothing that is there already", async () => {
    await using test = await start();
    const small = randomBytes(1000);
    expect(await test.repository.pushBlob(sourceOf(small))).toBe("pushed");
    expect(await test.repository.pushBlob(sourceOf(small))).toBe("exists");
    expect(test.registry.requests.map(({ method }) => method)).toEqual(["HEAD", "POST", "PUT", "HEAD"]);
  });

  it("makes chunks as large as the registry wants them", async () => {
    await using test = await start([], { minChunkBytes: 600_000 });
    await test.repository.pushBlob(source);
    expect(test.registry.asked("PATCH")).toHaveLength(2);
  });

  it("asks how much arrived when a connection dropped, and goes on there", async () => {
    await using test = await start([{ on: "PATCH", after: 3, dropUploadAfterBytes: 50_000, times: 2 }]);
    await test.repository.pushBlob(source);
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    expect(test.registry.asked("GET /uploads/")).toHaveLength(2);
    expect(uploaded(test)).toBe(bytes.length);
  });

  it("gets through over a connection that never lives as long as a chunk takes", async () => {
    await using test = await start([
      { on: "PATCH", dropUploadAfterBytes: 70_000, times: Number.POSITIVE_INFINITY },
    ]);
    expect(await test.repository.pushBlob(source)).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    expect(test.registry.asked("POST")).toHaveLength(1);
  });

  it.each<[string, Fault]>([
    ["503", { on: "PATCH", status: 503, times: 3 }],
    ["429", { on: "POST", status: 429, times: 3 }],
    ["an answer to a chunk that is lost", { on: "PATCH", after: 2, dropAfterBytes: 0 }],
    ["an answer to the commit that is lost", { on: "PUT", dropAfterBytes: 0 }],
    ["416", { on: "PATCH", after: 4, status: 416 }],
    ["a commit that fails once", { on: "PUT", status: 500 }],
  ])("gets over %s", async (_, fault) => {
    await using test = await start([fault]);
    expect(await test.repository.pushBlob(source)).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
  });

  it("begins anew when the registry has forgotten the upload", async () => {
    await using test = await start([{ on: "PATCH", after: 5, expireUploads: true }]);
    await test.repository.pushBlob(source);
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    expect(test.registry.asked("POST")).toHaveLength(2);
  });

  it("does not feed a registry for ever that always forgets", async () => {
    await using test = await start([
      { on: "/uploads/", expireUploads: true, times: Number.POSITIVE_INFINITY },
    ]);
    await expect(test.repository.pushBlob(source)).rejects.toMatchObject({
      code: "unavailable",
      reason: expect.stringContaining("the registry lost the upload"),
    });
  });

  it.each([
    ["takes no chunks", "none"],
    ["says that nothing of a chunk has arrived", "stale range"],
    ["makes something else of chunks", "lossy"],
  ] as const)("sends everything at once to a registry that %s, and goes on doing so", async (_, chunks) => {
    await using test = await start([], { chunks });
    expect(await test.repository.pushBlob(source)).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    const before = test.registry.requests.length;
    const other = randomBytes(500_000);
    await test.repository.pushBlob(sourceOf(other));
    expect(test.registry.requests.slice(before).map(({ method }) => method)).toEqual(["HEAD", "POST", "PUT"]);
  });

  it("sends smaller chunks to a registry that takes no large ones", async () => {
    await using test = await start([], { chunks: "small" }, { chunkBytes: 6_000_000 });
    const large = randomBytes(9_000_000);
    await test.repository.pushBlob(sourceOf(large));
    expect(test.registry.asked("PATCH").map(({ status }) => status)).toEqual([416, 202, 202, 202]);
    expect(test.registry.blobs.has(blobOf(large).digest)).toBe(true);
  });

  it("sends everything at once when chunks go astray again and again", async () => {
    await using test = await start([{ on: "PATCH", after: 1, status: 416, times: Number.POSITIVE_INFINITY }]);
    expect(await test.repository.pushBlob(source)).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
  });

  it("goes on in another process where one stopped", async () => {
    await using test = await start();
    const sessions = sessionsInMemory();
    const controller = new AbortController();
    const onProgress = (sentBytes: number) => void (sentBytes > 650_000 && controller.abort());
    const cut = test.repository.pushBlob(source, { sessions, signal: controller.signal, onProgress });
    await expect(cut).rejects.toMatchObject({ code: "cancelled" });
    expect(sessions.map.size).toBe(1);
    const before = uploaded(test);
    const progress: number[] = [];
    await test.another().pushBlob(source, { sessions, onProgress: (sentBytes) => progress.push(sentBytes) });
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    // The chunk that was under way when the first push was cancelled has arrived whole.
    expect(progress[0]).toBe(700_000);
    expect(uploaded(test) - before).toBe(300_000);
    expect(sessions.map.size).toBe(0);
  });

  it.each([
    "not JSON",
    "{}",
    '{"location":"file:///x"}',
    // Where nothing listens.
    '{"location":"https://127.0.0.1:1/x"}',
    '{"location":"http://127.0.0.1:1/x"}',
  ])("begins anew when the kept session is %s", async (text) => {
    await using test = await start();
    const sessions = sessionsInMemory();
    sessions.map.set(`${test.repository.name}@${source.digest}`, text);
    expect(await test.repository.pushBlob(source, { sessions })).toBe("pushed");
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    expect(test.registry.asked("POST")).toHaveLength(1);
    expect(sessions.map.size).toBe(0);
  });

  it("asks elsewhere without the credentials when the kept session leads there, and begins anew", async () => {
    const auth = { kind: "basic", username: "me", password: "secret" } as const;
    await using test = await start([], { auth }, { credentials: { get: async () => auth } });
    await using elsewhere = await startTestRegistry();
    const sessions = sessionsInMemory();
    const location = `http://${elsewhere.address}/v2/hello/blobs/uploads/other?_state=1`;
    sessions.map.set(`${test.repository.name}@${source.digest}`, JSON.stringify({ location }));
    expect(await test.repository.pushBlob(source, { sessions })).toBe("pushed");
    expect(elsewhere.requests.map(({ method, headers }) => [method, headers.authorization])).toEqual([
      ["GET", undefined],
    ]);
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
  });

  it("begins anew when the session was kept too long", async () => {
    await using test = await start();
    const sessions = sessionsInMemory();
    const location = `http://${test.registry.address}/v2/hello/blobs/uploads/gone?_state=1`;
    sessions.map.set(
      `${test.repository.name}@${source.digest}`,
      JSON.stringify({ location, minChunkBytes: 0 }),
    );
    await test.repository.pushBlob(source, { sessions });
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
  });

  it("notices a registry that stored something else", async () => {
    const lie = `sha256:${"0".repeat(64)}`;
    await using test = await start([{ on: "PUT", headers: { "docker-content-digest": lie } }]);
    await expect(test.repository.pushBlob(source)).rejects.toMatchObject({
      code: "corrupt",
      reason: `the registry says that it stored ${lie}`,
    });
  });

  it.each([200, 202, 204])(
    "looks whether a blob is there whose commit was answered with %i",
    async (status) => {
      await using test = await start([{ on: "PUT", status, body: "" }]);
      expect(await test.repository.pushBlob(source)).toBe("pushed");
      expect(blobOf(stored(test))).toEqual(blobOf(bytes));
      const small = randomBytes(1000);
      test.registry.faults.add({ on: "PUT", status, body: "" });
      expect(await test.repository.pushBlob(sourceOf(small))).toBe("pushed");
      expect(test.registry.blobs.has(blobOf(small).digest)).toBe(true);
    },
  );

  it("is content with such an answer when the blob is there", async () => {
    await using test = await start();
    const on = ({ method }: RecordedRequest) => {
      if (method === "PUT") test.registry.put("hello", bytes);
      return method === "PUT";
    };
    test.registry.faults.add({ on, status: 204, body: "" });
    expect(await test.repository.pushBlob(source)).toBe("pushed");
    expect(test.registry.asked("PUT")).toHaveLength(1);
  });

  it("says so when what is sent is not what was announced", async () => {
    await using test = await start();
    const wrong = { ...source, digest: blobOf(randomBytes(9)).digest };
    await expect(test.repository.pushBlob(wrong)).rejects.toMatchObject({
      code: "corrupt",
      reason: expect.stringContaining("DIGEST_INVALID"),
    });
    const short = { ...source, size: bytes.length + 1 };
    await expect(test.repository.pushBlob(short)).rejects.toMatchObject({ code: "corrupt" });
  });

  it("uses the upload that a refused mount has begun", async () => {
    await using test = await start([], { mounts: false });
    expect(await test.repository.mountBlob(source.digest, "parent")).toBe(false);
    await test.repository.pushBlob(source);
    expect(blobOf(stored(test))).toEqual(blobOf(bytes));
    expect(test.registry.asked("POST")).toHaveLength(1);
  });

  it.each([400, 401, 403, 404, 405])("sends the blob where a mount is answered with %i", async (status) => {
    await using test = await start([{ on: "POST mount=", status }]);
    expect(await test.repository.mountBlob(source.digest, "parent")).toBe(false);
  });

  it.each([400, 401, 403, 404])(
    "sends the blob where the token server answers %i when it is asked for both repositories",
    async (status) => {
      const auth = { kind: "token", username: "me", password: "secret" } as const;
      const on = ({ origin, path }: RecordedRequest) => origin === "token" && path.includes("parent");
      const fault = { on, status, times: Number.POSITIVE_INFINITY };
      await using test = await start([fault], { auth }, { credentials: { get: async () => auth } });
      expect(await test.repository.mountBlob(source.digest, "parent")).toBe(false);
      // Once more, now that the registry is known to want a token.
      expect(await test.repository.mountBlob(source.digest, "parent")).toBe(false);
      expect(test.registry.asked("token parent").length).toBeGreaterThan(0);
      expect(await test.repository.pushBlob(source)).toBe("pushed");
    },
  );

  it("does not wait for ever for its last chunk when it is cancelled", async () => {
    await using test = await start(
      [{ on: "PATCH", after: 6, stallAfterBytes: 0 }],
      {},
      { lastChunkTimeoutMs: 20 },
    );
    const sessions = sessionsInMemory();
    const controller = new AbortController();
    const onProgress = (sentBytes: number) => void (sentBytes > 650_000 && controller.abort());
    const cut = test.repository.pushBlob(source, { sessions, signal: controller.signal, onProgress });
    await expect(cut).rejects.toMatchObject({ code: "cancelled" });
  });

  it("stops at once when it is cancelled", async () => {
    await using test = await start();
    const controller = new AbortController();
    const push = test.repository.pushBlob(source, {
      signal: controller.signal,
      onProgress: (sentBytes) => void (sentBytes > 300_000 && controller.abort()),
    });
    await expect(push).rejects.toMatchObject({ code: "cancelled", operation: "push the blob" });
    expect(test.registry.blobs.size).toBe(0);
  });
});
