import { chmod, mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import { dockerCredentials, eraseCredentials, saveCredentials } from "./docker.ts";

const registry = "registry.example:5000";
const me = { username: "me", password: "correct:horse" };
const auth = Buffer.from("me:correct:horse").toString("base64");

/** A directory with a config.json, and a credential helper beside it that keeps what it is given in a file. */
async function start(config?: unknown) {
  const directory = await temporaryDirectory();
  const file = join(directory.path, "config.json");
  if (config !== undefined)
    await writeFile(file, typeof config === "string" ? config : JSON.stringify(config));
  const helper = join(directory.path, "docker-credential-test");
  await writeFile(
    helper,
    `#!/bin/sh
case "$1" in
  get) read server; [ -e '${directory.path}/kept' ] && cat '${directory.path}/kept' && exit 0
       [ "$server" = broken.example ] && { echo "the keychain is locked"; exit 1; }
       [ "$server" = slow.example ] && exec sleep 60
       echo "credentials not found in native keychain"; exit 1 ;;
  store) cat >'${directory.path}/kept' ;;
  erase) rm '${directory.path}/kept' ;;
esac
`,
  );
  await chmod(helper, 0o755);
  const options = {
    directory: directory.path,
    env: { ...process.env, PATH: `${directory.path}:${process.env.PATH}` },
  };
  const read = async () => JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  const kept = () => readFile(join(directory.path, "kept"), "utf8");
  return { options, file, read, kept, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

describe("Docker's config.json", () => {
  it.each([
    ["auth", { auths: { [registry]: { auth } } }, me],
    ["a URL as the name", { auths: { [`https://${registry}/v1/`]: { auth } } }, me],
    ["an identity token", { auths: { [registry]: { auth, identitytoken: "t" } } }, { identityToken: "t" }],
    ["a registry token", { auths: { [registry]: { registrytoken: "t" } } }, { registryToken: "t" }],
    ["a name and a password", { auths: { [registry]: me } }, me],
    ["another registry", { auths: { "registry.example": { auth } } }, undefined],
    ["nothing", {}, undefined],
    ["an empty entry", { auths: { [registry]: {} } }, undefined],
    ["something else in its place", { auths: 7, credHelpers: [] }, undefined],
  ])("is read with %s", async (_, config, credential) => {
    await using test = await start(config);
    expect(await dockerCredentials(test.options).get(registry)).toEqual(credential);
  });

  it("need not exist, and need not be named", async () => {
    await using test = await start();
    expect(await dockerCredentials(test.options).get(registry)).toBeUndefined();
    expect(await dockerCredentials().get(registry)).toBeUndefined();
  });

  it.each(["docker.io", "index.docker.io", "registry-1.docker.io"])(
    "knows Docker Hub as %s",
    async (name) => {
      await using test = await start({ auths: { "https://index.docker.io/v1/": { auth } } });
      expect(await dockerCredentials(test.options).get(name)).toEqual(me);
    },
  );

  it.each(["{", "[]", JSON.stringify({ auths: { [registry]: { auth: "bm90aGluZw==" } } })])(
    "is not guessed at when it is damaged: %s",
    async (text) => {
      await using test = await start(text);
      const attempt = dockerCredentials(test.options).get(registry);
      await expect(attempt).rejects.toMatchObject({
        code: "corrupt",
        subject: expect.stringContaining(test.file),
      });
    },
  );
});

describe("login and logout", () => {
  it("write for their owner alone, and leave everything else as it is", async () => {
    await using test = await start({
      auths: { "other.example": { auth: "eDp5" } },
      proxies: { default: {} },
    });
    expect(await saveCredentials(registry, me, test.options)).toEqual({ file: test.file });
    expect(await test.read()).toEqual({
      auths: { "other.example": { auth: "eDp5" }, [registry]: { auth } },
      proxies: { default: {} },
    });
    expect((await stat(test.file)).mode & 0o777).toBe(0o600);
    expect(await dockerCredentials(test.options).get(registry)).toEqual(me);
    expect(await eraseCredentials(registry, test.options)).toBe(true);
    expect(await eraseCredentials(registry, test.options)).toBe(false);
    expect(await test.read()).toEqual({
      auths: { "other.example": { auth: "eDp5" } },
      proxies: { default: {} },
    });
  });

  it("make the directory where there is none", async () => {
    await using test = await start();
    const directory = join(test.options.directory, "new/one");
    await saveCredentials(registry, me, { directory });
    expect(await dockerCredentials({ directory }).get(registry)).toEqual(me);
  });

  it("write through a link", async () => {
    await using test = await start();
    const target = join(test.options.directory, "real");
    await mkdir(target);
    await writeFile(join(target, "config.json"), "{}");
    await symlink(join(target, "config.json"), test.file);
    await saveCredentials(registry, me, test.options);
    expect(await readFile(join(target, "config.json"), "utf8")).toContain(auth);
  });

  it.each([{ credsStore: "test" }, { credHelpers: { [registry]: "test" }, credsStore: "absent" }])(
    "use the program that is named by %j",
    async (config) => {
      await using test = await start(config);
      expect(await dockerCredentials(test.options).get(registry)).toBeUndefined();
      expect(await saveCredentials(registry, me, test.options)).toEqual({ helper: "docker-credential-test" });
      expect(JSON.parse(await test.kept())).toEqual({
        ServerURL: registry,
        Username: "me",
        Secret: "correct:horse",
      });
      expect(JSON.stringify(await test.read())).not.toContain(auth);
      expect(await dockerCredentials(test.options).get(registry)).toEqual(me);
      expect(await eraseCredentials(registry, test.options)).toBe(true);
      expect(await dockerCredentials(test.options).get(registry)).toBeUndefined();
    },
  );

  it("refuse names that could not be told from their password", async () => {
    await using test = await start();
    const save = saveCredentials(registry, { username: "a:b", password: "c" }, test.options);
    await expect(save).rejects.toMatchObject({ code: "invalid_argument" });
  });
});

describe("a credential helper", () => {
  it("may know an identity token", async () => {
    await using test = await start({ credsStore: "test" });
    await saveCredentials(registry, { username: "<token>", password: "t" }, test.options);
    expect(await dockerCredentials(test.options).get(registry)).toEqual({ identityToken: "t" });
  });

  it("is quoted when it fails", async () => {
    await using test = await start({ credsStore: "test" });
    await expect(dockerCredentials(test.options).get("broken.example")).rejects.toMatchObject({
      code: "unavailable",
      subject: "docker-credential-test",
      reason: "the keychain is locked",
    });
  });

  it("is named when it is missing", async () => {
    await using test = await start({ credsStore: "absent" });
    await expect(dockerCredentials(test.options).get(registry)).rejects.toMatchObject({
      code: "unsupported",
      reason: expect.stringContaining("docker-credential-absent"),
    });
  });

  it("has a deadline", async () => {
    await using test = await start({ credsStore: "test" });
    const source = dockerCredentials({ ...test.options, timeoutMs: 100 });
    await expect(source.get("slow.example")).rejects.toMatchObject({ code: "deadline_exceeded" });
  });

  it("cannot be a path", async () => {
    await using test = await start({ credsStore: "../../bin/sh" });
    await expect(dockerCredentials(test.options).get(registry)).rejects.toMatchObject({
      code: "invalid_argument",
    });
  });

  it("is not believed when it answers nonsense", async () => {
    await using test = await start({ credsStore: "test" });
    await writeFile(join(test.options.directory, "kept"), "nonsense");
    await expect(dockerCredentials(test.options).get(registry)).rejects.toMatchObject({ code: "corrupt" });
  });
});
