import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore, type Store } from "@sporelet/store";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import type { ImageSource } from "../project/config.ts";
import { type BuiltImage, buildImage } from "./build.ts";
import { writeDockerArchive, writeLayer } from "./docker-archive.ts";

const options = { command: ["run"], entrypoint: [], env: {}, workdir: "/", user: "", expose: [] };
let directory: string;
let store: Store;
let registry: Server;
let address: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sporelet-images-"));
  store = await openStore({ root: join(directory, "store") });
  const layer = join(directory, "layer.tar");
  await writeLayer([{ path: "app/run", mode: 0o755, content: Buffer.from("hello") }], layer);
  await writeDockerArchive({ name: "mine:1", options }, [layer], join(directory, "mine.tar"));
  registry = await serveLayout(join(directory, "layout"));
  address = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
});
afterAll(async () => {
  registry.close();
  await rm(directory, { recursive: true, force: true });
});

/** A registry that knows one image, `mine:1`, from an OCI layout (distribution-spec: pulling). */
function serveLayout(layout: string): Promise<Server> {
  const server = createServer(async (request, response) => {
    const [, kind, reference = ""] = /^\/v2\/mine\/(manifests|blobs)\/(.+)$/.exec(request.url ?? "") ?? [];
    if (request.url === "/v2/") return void response.end();
    const index = await readFile(join(layout, "index.json"), "utf8").catch(() => '{"manifests":[]}');
    const [manifest] = JSON.parse(index).manifests;
    const digest = reference === "1" ? manifest?.digest : reference;
    const blob =
      kind &&
      digest &&
      (await readFile(join(layout, "blobs", digest.replace(":", "/"))).catch(() => undefined));
    if (!blob) {
      const errors = [{ code: "MANIFEST_UNKNOWN", message: "manifest unknown" }];
      return void response
        .writeHead(404, { "content-type": "application/json" })
        .end(JSON.stringify({ errors }));
    }
    const type = kind === "manifests" ? manifest.mediaType : "application/octet-stream";
    response.writeHead(200, {
      "content-type": type,
      "docker-content-digest": digest,
      "content-length": blob.length,
    });
    response.end(request.method === "HEAD" ? undefined : blob);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

function needSkopeo(context: TestContext): void {
  try {
    execFileSync("skopeo", ["--version"]);
  } catch {
    context.skip("skopeo is not installed");
  }
}

const build = (image: { name: string } & ImageSource): Promise<BuiltImage> =>
  buildImage(image, {
    cache: store.cache,
    projectDirectory: directory,
    refresh: false,
    onLine: () => {},
    onProgress: () => {},
  });

const manifestOf = (archive: string) =>
  JSON.parse(execFileSync("tar", ["-xOf", archive, "manifest.json"]).toString())[0];

describe("an image", () => {
  it("from a docker save file gets the name that the project calls it by, once", async (context) => {
    needSkopeo(context);
    const built = await build({ name: "shop/api:2", kind: "archive", path: "mine.tar" });
    expect(manifestOf(built.archive).RepoTags).toEqual([expect.stringMatching(/shop\/api:2$/)]);
    expect(built.cached).toBe(false);
    expect(await build({ name: "shop/api:2", kind: "archive", path: "mine.tar" })).toMatchObject({
      cached: true,
      key: built.key,
    });
  });

  it("from an OCI layout and from a registry is the same image", async (context) => {
    needSkopeo(context);
    const source = `docker-archive:${join(directory, "mine.tar")}`;
    const skopeo = ["--insecure-policy", "copy", "-q", source, `oci:${join(directory, "layout")}:1`];
    execFileSync("skopeo", skopeo);
    const fromLayout = await build({ name: "one:1", kind: "layout", path: "layout:1" });
    const fromRegistry = await build({ name: `${address}/mine:1`, kind: "registry", tls: false });
    expect(manifestOf(fromRegistry.archive).Config).toBe(manifestOf(fromLayout.archive).Config);
  });

  it("that its registry does not know is not found, in the registry's words", async (context) => {
    needSkopeo(context);
    await expect(build({ name: `${address}/no/such:1`, kind: "registry", tls: false })).rejects.toMatchObject(
      {
        code: "not_found",
        subject: `${address}/no/such:1`,
        reason: expect.stringContaining("manifest unknown"),
      },
    );
  });

  it("of a registry that speaks plain HTTP says how to allow that", async (context) => {
    needSkopeo(context);
    await expect(build({ name: `${address}/mine:1`, kind: "registry", tls: true })).rejects.toMatchObject({
      code: "unavailable",
      hint: expect.stringContaining("tls: false"),
    });
  });

  it("of a registry that is not there is unavailable", async (context) => {
    needSkopeo(context);
    await expect(build({ name: "127.0.0.1:1/mine:1", kind: "registry", tls: false })).rejects.toMatchObject({
      code: "unavailable",
      reason: expect.stringContaining("does not answer"),
    });
  });

  it("whose file is missing, or that is named by a digest, is refused with its name", async () => {
    await expect(build({ name: "x:1", kind: "archive", path: "no.tar" })).rejects.toThrow("no.tar");
    const digest = `x@sha256:${"0".repeat(64)}`;
    await expect(build({ name: digest, kind: "registry", tls: true })).rejects.toThrow("under a digest");
  });

  it("that fails leaves nothing in the store's temporary directory", async (context) => {
    needSkopeo(context);
    await writeFile(join(directory, "broken.tar"), "no tar");
    await expect(build({ name: "x:1", kind: "archive", path: "broken.tar" })).rejects.toThrow("broken.tar");
    expect((await stat(join(store.root, "tmp"))).nlink).toBe(2);
  });
});
