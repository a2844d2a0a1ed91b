import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createRegistryClient } from "../client/client.ts";
import type { Credential } from "../credentials/credential.ts";
import { blobOf, type Fault, sourceOf, startTestRegistry, type TestAuth } from "../testing/index.ts";

const bytes = randomBytes(2000);
const blob = blobOf(bytes);
const me = { username: "me", password: "correct horse:battery" };

async function start(options: { auth?: Partial<TestAuth>; credential?: Credential; faults?: Fault[] } = {}) {
  const stack = new AsyncDisposableStack();
  const auth: TestAuth = { kind: "token", ...me, ...options.auth };
  const registry = stack.use(await startTestRegistry({ auth, faults: options.faults ?? [] }));
  registry.put("hello", bytes);
  registry.put("parent", bytes);
  let lookups = 0;
  const credentials = {
    async get() {
      lookups += 1;
      return "credential" in options ? options.credential : me;
    },
  };
  const client = stack.use(createRegistryClient({ credentials, retries: { firstDelayMs: 1 } }));
  return {
    registry,
    client,
    repository: client.repository(registry.address, "hello"),
    tokens: () => registry.asked("token"),
    lookups: () => lookups,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe("a registry that wants tokens", () => {
  it("gets one, and the same one again until it expires", async () => {
    await using test = await start();
    for (let i = 0; i < 3; i++) expect(blobOf(await test.repository.readBlob(blob))).toEqual(blob);
    expect(test.tokens()).toHaveLength(1);
    expect(test.lookups()).toBe(1);
    expect(test.tokens()[0]?.path).toContain(
      "service=test+registry&scope=repository%3Ahello%3Apull&account=me",
    );
  });

  it("is asked once for many requests at the same time, also after the token was revoked", async () => {
    await using test = await start();
    const readMany = () => Promise.all(Array.from({ length: 20 }, () => test.repository.readBlob(blob)));
    await readMany();
    expect(test.tokens()).toHaveLength(1);
    test.registry.revokeTokens();
    await readMany();
    expect(test.tokens()).toHaveLength(2);
  });

  it("is asked for another one before it has to refuse the old one", async () => {
    await using test = await start({ auth: { tokenLifeSeconds: 1e-9 } });
    for (let i = 0; i < 3; i++) await test.repository.readBlob(blob);
    expect(test.tokens()).toHaveLength(3);
    expect(test.registry.asked("GET /blobs/").map(({ status }) => status)).toEqual([401, 200, 200, 200]);
  });

  it("is asked for a token of its own for each scope", async () => {
    await using test = await start();
    await test.repository.readBlob(blob);
    await test.repository.pushBlob(sourceOf(randomBytes(10)));
    expect(await test.repository.mountBlob(blob.digest, "parent")).toBe(true);
    const scopes = test.tokens().map(({ path }) => new URLSearchParams(path.split("?")[1]).getAll("scope"));
    expect(scopes).toEqual([
      ["repository:hello:pull"],
      ["repository:hello:pull,push"],
      ["repository:hello:pull,push", "repository:parent:pull"],
    ]);
  });

  it("lets anybody pull where it does, and explains that a login is needed to push", async () => {
    const options = { auth: { anonymousPull: true } };
    await using test = await start({ ...options, credential: undefined as unknown as Credential });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blob);
    expect(test.tokens()[0]?.headers.authorization).toBeUndefined();
    await expect(test.repository.pushBlob(sourceOf(randomBytes(10)))).rejects.toMatchObject({
      code: "permission_denied",
      hint: `log in: sporectl login ${test.registry.address}`,
      reason: `${test.registry.address} answered 401: UNAUTHORIZED: authentication required`,
    });
  });

  it("is told an identity token by POST, and never in an address", async () => {
    await using test = await start({
      auth: { identityToken: "refresh me" },
      credential: { identityToken: "refresh me" },
    });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blob);
    expect(test.tokens().map(({ method, path }) => [method, path])).toEqual([["POST", "/token"]]);
  });

  it("says so when the password is wrong, without trying again and again", async () => {
    await using test = await start({ credential: { ...me, password: "wrong" } });
    await expect(test.repository.readBlob(blob)).rejects.toMatchObject({
      code: "permission_denied",
      operation: "get a token for",
      subject: test.registry.address,
      reason: expect.stringContaining("incorrect username or password"),
    });
    expect(test.tokens()).toHaveLength(1);
  });

  it("is asked again when its token server is busy", async () => {
    await using test = await start({ faults: [{ on: "token", status: 503, times: 2 }] });
    expect(blobOf(await test.repository.readBlob(blob))).toEqual(blob);
  });

  it.each(["", "{}", '{"token":7}', '{"token":"a\\r\\nb"}', "null"])(
    "is refused when its token is %j",
    async (body) => {
      await using test = await start({ faults: [{ on: "token", status: 200, body }] });
      await expect(test.repository.readBlob(blob)).rejects.toThrow("answered without a token");
    },
  );

  it.each(["http://auth.example/token", "ftp://auth.example", "nonsense"])(
    "gets no password when it sends us to %s for a token",
    async (realm) => {
      await using test = await start({ auth: { realm } });
      await expect(test.repository.readBlob(blob)).rejects.toMatchObject({ code: "permission_denied" });
    },
  );

  it("does not make those wait who gave up", async () => {
    await using test = await start({ faults: [{ on: "token", stallAfterBytes: 0 }] });
    const signal = AbortSignal.timeout(50);
    await expect(test.repository.readBlob(blob, { signal })).rejects.toMatchObject({
      code: "deadline_exceeded",
    });
  });
});

describe("a registry that wants a password", () => {
  it("gets it once it has asked", async () => {
    await using test = await start({ auth: { kind: "basic" } });
    await test.repository.readBlob(blob);
    await test.repository.readBlob(blob);
    expect(test.registry.requests.map(({ status }) => status)).toEqual([401, 200, 200]);
  });

  it("is not asked twice with a wrong one", async () => {
    await using test = await start({ auth: { kind: "basic" }, credential: { ...me, password: "wrong" } });
    await expect(test.repository.readBlob(blob)).rejects.toMatchObject({ code: "permission_denied" });
    expect(test.registry.requests.map(({ status }) => status)).toEqual([401, 401]);
  });
});

describe("checking credentials", () => {
  it.each(["basic", "token"] as const)("tells good from bad (%s)", async (kind) => {
    await using good = await start({ auth: { kind } });
    await good.client.check(good.registry.address);
    await using bad = await start({ auth: { kind }, credential: { ...me, password: "wrong" } });
    await expect(bad.client.check(bad.registry.address)).rejects.toMatchObject({ code: "permission_denied" });
  });
});
