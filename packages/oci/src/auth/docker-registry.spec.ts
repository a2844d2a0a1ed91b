import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { createRegistryClient } from "../client/client.ts";
import { dockerCredentials, saveCredentials } from "../credentials/docker.ts";
import {
  blobOf,
  makeCertificate,
  sourceOf,
  startDockerRegistry,
  whyNoCertificate,
  whyNoDockerRegistry,
} from "../testing/index.ts";
import { startTokenServer } from "../testing/token-server.ts";

const me = { username: "me", password: "correct horse:battery" };
/** bcrypt of that password, as docker-registry wants it. */
const htpasswd = "me:$2a$04$k8JCJtVQ7ZFeVEJnJ3Kz8ue47C3303SMDw4WDisp4ovzXpO7gGyTy\n";

describe("docker-registry", () => {
  it("with passwords lets in who is logged in, and tells others to log in", async (ctx) => {
    const reason = whyNoDockerRegistry();
    if (reason !== undefined) return ctx.skip(reason);
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "htpasswd");
    await writeFile(path, htpasswd);
    await using registry = await startDockerRegistry({
      config: `auth: { htpasswd: { realm: tests, path: ${path} } }`,
    });
    await using stranger = createRegistryClient();
    await expect(stranger.check(registry.address)).rejects.toMatchObject({
      code: "permission_denied",
      hint: `log in: sporectl login ${registry.address}`,
    });
    await saveCredentials(registry.address, me, { directory: directory.path });
    await using client = createRegistryClient({
      credentials: dockerCredentials({ directory: directory.path }),
    });
    await client.check(registry.address);
    const bytes = randomBytes(100);
    const repository = client.repository(registry.address, "hello");
    expect(await repository.pushBlob(sourceOf(bytes))).toBe("pushed");
    expect(await repository.readBlob(blobOf(bytes))).toEqual(bytes);
  });

  it("with tokens takes one for each scope, and mounts with one for two repositories", async (ctx) => {
    const reason = whyNoDockerRegistry() ?? whyNoCertificate();
    if (reason !== undefined) return ctx.skip(reason);
    using certificate = makeCertificate();
    await using tokens = await startTokenServer({ ...me, certificate });
    await using registry = await startDockerRegistry({ config: tokens.config });
    await using client = createRegistryClient({ credentials: { get: async () => me } });
    await client.check(registry.address);
    const bytes = randomBytes(2_000_000);
    expect(await client.repository(registry.address, "parent").pushBlob(sourceOf(bytes))).toBe("pushed");
    const child = client.repository(registry.address, "child");
    expect(await child.mountBlob(blobOf(bytes).digest, "parent")).toBe(true);
    expect(blobOf(await child.readBlob(blobOf(bytes)))).toEqual(blobOf(bytes));
    expect(tokens.given).toEqual([
      [],
      ["repository:parent:pull,push"],
      ["repository:child:pull,push", "repository:parent:pull"],
      ["repository:child:pull"],
    ]);
    await using stranger = createRegistryClient();
    const repository = stranger.repository(registry.address, "child");
    expect(blobOf(await repository.readBlob(blobOf(bytes)))).toEqual(blobOf(bytes));
    await expect(repository.pushBlob(sourceOf(randomBytes(9)))).rejects.toMatchObject({
      code: "permission_denied",
    });
  });
});
