import { open, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, type TestContext } from "vitest";
import { cloneFile } from "../files/copy.ts";
import { runProcess } from "../process.ts";
import { mountXfs, temporaryDirectory, whyNoMounts } from "../testing/index.ts";
import { imageSize } from "./image.ts";
import { mountAt, parseMounts } from "./mounts.ts";
import { openVolume } from "./volume.ts";

const operation = "look at a test's volume";
const loopsOf = async (image: string) =>
  (await runProcess(["losetup", "-j", image], { operation })).stdout.trim();

/** A home on a file system without reflinks; what is mounted in it in the end is a failure. */
async function withHome(
  ctx: TestContext,
  run: (home: string, image: string) => Promise<void>,
): Promise<void> {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using outer = await mountXfs({ reflink: false });
  const home = join(outer.path, "home");
  const image = join(home, "store.img");
  try {
    await run(home, image);
    expect(await mountAt(join(home, "store"))).toBeUndefined();
    expect(await loopsOf(image)).toBe("");
  } finally {
    await unmountStore(home);
  }
}

/** In case that the test failed before it did so itself. */
async function unmountStore(home: string): Promise<void> {
  await runProcess(["umount", "-q", join(home, "store")], { operation, ok: [0, 1, 32] });
}

describe("the store's volume", () => {
  it("is the home's own file system where that has reflinks", async (ctx) => {
    const reason = whyNoMounts();
    if (reason) ctx.skip(reason);
    await using xfs = await mountXfs();
    await using volume = await openVolume({ home: xfs.path });
    expect(volume).toMatchObject({ path: join(xfs.path, "store"), kind: "native", reflink: true });
    expect(volume.notice).toBeUndefined();
    expect(await readdir(volume.path)).toEqual([]);
  });

  it("is an XFS image elsewhere, with reflinks, and says so; it is unmounted at the end", async (ctx) => {
    const reason = whyNoMounts();
    if (reason) ctx.skip(reason);
    await using home = await temporaryDirectory(); // Expected on ext4, as on a stock Debian.
    await using _cleanup = { [Symbol.asyncDispose]: () => unmountStore(home.path) };
    const image = join(home.path, "store.img");
    const volume = await openVolume({ home: home.path });
    if (volume.kind === "native") ctx.skip("temporary files are on a file system with reflinks");
    expect(volume).toMatchObject({ kind: "loop", reflink: true, notice: expect.stringContaining(image) });
    await writeFile(join(volume.path, "a"), Buffer.alloc(100_000, 1));
    expect(await cloneFile(join(volume.path, "a"), join(volume.path, "b"))).toBe("reflink");
    const { blocks, size } = await stat(image);
    expect(blocks * 512).toBeLessThan(size / 4);

    // A process that crashed here leaves it mounted; the next one takes it over.
    const again = await openVolume({ home: home.path });
    expect(again.kind).toBe("loop");
    expect(again.notice).toBeUndefined();

    // In use, it stays.
    const handle = await open(join(again.path, "a"), "r");
    expect(await again.close()).toEqual({ unmounted: false });
    await handle.close();
    expect(await again.close()).toEqual({ unmounted: true });
    expect(await volume.close()).toEqual({ unmounted: true });
    expect(await mountAt(join(home.path, "store"))).toBeUndefined();
    expect(await loopsOf(image)).toBe("");

    await using third = await openVolume({ home: home.path });
    expect((await readFile(join(third.path, "b"))).length).toBe(100_000);
  });

  it("is a plain directory when there is too little space for an image", (ctx) =>
    withHome(ctx, async (home) => {
      await using volume = await openVolume({ home });
      expect(volume).toMatchObject({
        kind: "plain",
        reflink: false,
        notice: expect.stringContaining("too full"),
      });
      expect(await readdir(home)).toEqual(["store"]);
    }));

  it("is a plain directory when images are not wanted", (ctx) =>
    withHome(ctx, async (home) => {
      await using volume = await openVolume({ home, loop: false });
      expect(volume).toMatchObject({ kind: "plain", notice: expect.stringContaining("SPORELET_NO_LOOP") });
    }));

  it("stays what it is when it has content, which an image would hide", (ctx) =>
    withHome(ctx, async (home) => {
      {
        await using volume = await openVolume({ home, loop: false });
        await writeFile(join(volume.path, "precious"), "data");
      }
      await using volume = await openVolume({ home });
      expect(volume).toMatchObject({ kind: "plain", notice: expect.stringContaining("content") });
      expect(await readFile(join(volume.path, "precious"), "utf8")).toBe("data");
    }));

  it("that is damaged is an error that says how to repair it, and leaves no loop device", (ctx) =>
    withHome(ctx, async (home, image) => {
      await openVolume({ home, loop: false });
      await writeFile(image, "");
      await truncate(image, 100 * 1024 * 1024);
      await expect(openVolume({ home })).rejects.toMatchObject({
        code: "corrupt",
        subject: image,
        hint: expect.stringContaining(`xfs_repair ${image}`),
      });
      await expect(openVolume({ home, loop: false })).rejects.toMatchObject({ code: "failed_precondition" });
    }));
});

it("images are sparse: at most 64 GiB, at most 80 % of what is free, not smaller than XFS allows", () => {
  const GiB = 1024 ** 3;
  expect(imageSize(1000 * GiB)).toBe(64 * GiB);
  expect(imageSize(10 * GiB)).toBe(8 * GiB);
  expect(imageSize(300 * 1024 * 1024)).toBeUndefined();
});

it("mount points with blanks are read as they are", () => {
  const line = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 master:2 - xfs /dev/loop3 rw,errors=continue";
  expect(parseMounts(line)).toEqual([{ path: "/mnt/a b", type: "xfs", source: "/dev/loop3" }]);
});
