import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { imageConfig, writeDockerArchive, writeLayer } from "./docker-archive.ts";
import { archiveReference } from "./skopeo.ts";

const options = {
  command: ["run"],
  entrypoint: [],
  env: { B: "2", A: "1" },
  workdir: "/",
  user: "",
  expose: [8080, 80],
};
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sporelet-image-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function archive(name: string): Promise<string> {
  const layer = join(directory, "layer.tar");
  const target = join(directory, name);
  await writeLayer([{ path: "app/run", mode: 0o755, content: Buffer.from("hello") }], layer);
  await writeDockerArchive({ name: "mine:1", options }, [layer], target);
  return target;
}

describe("an image archive", () => {
  it("is the same, byte for byte, each time", async () => {
    const [one, two] = [await readFile(await archive("one.tar")), await readFile(await archive("two.tar"))];
    expect(Buffer.compare(one, two)).toBe(0);
  });

  it("names config and layers by digests that are right", async () => {
    const path = await archive("image.tar");
    const read = (name: string) => execFileSync("tar", ["-xOf", path, name]);
    const [manifest] = JSON.parse(read("manifest.json").toString());
    expect(manifest.RepoTags).toEqual(["mine:1"]);
    const config = read(manifest.Config);
    expect(`${createHash("sha256").update(config).digest("hex")}.json`).toBe(manifest.Config);
    const diffId = `sha256:${createHash("sha256").update(read(manifest.Layers[0])).digest("hex")}`;
    expect(JSON.parse(config.toString()).rootfs.diff_ids).toEqual([diffId]);
  });

  it("is read by skopeo as an image of that name", async () => {
    const path = await archive("image.tar");
    const { reference } = await archiveReference(path, "docker.io/library/mine:1");
    expect(reference).toBe(`docker-archive:${path}:mine:1`);
    const target = join(directory, "layout");
    execFileSync("skopeo", ["--insecure-policy", "copy", "-q", reference, `oci:${target}:x`]);
    expect(JSON.parse(await readFile(join(target, "index.json"), "utf8")).manifests).toHaveLength(1);
  });

  it("that is no archive is refused with what to do", async () => {
    await expect(archiveReference(join(directory, "nothing.tar"), "x")).rejects.toThrow(
      "no tar file of images",
    );
  });
});

describe("an image's config", () => {
  it("sorts variables and ports, so that equal settings give an equal image", () => {
    const other = { ...options, env: { A: "1", B: "2" }, expose: [80, 8080] };
    expect(imageConfig(other, [])).toBe(imageConfig(options, []));
    const { config } = JSON.parse(imageConfig(options, []));
    expect(config.Env).toEqual(["A=1", "B=2", expect.stringContaining("PATH=")]);
    expect(Object.keys(config.ExposedPorts)).toEqual(["80/tcp", "8080/tcp"]);
  });
});
