import { open, rm, stat } from "node:fs/promises";
import path from "node:path";
import { openVolume, runProcess } from "@sporelet/host";
import { temporaryDirectory, whyNoMounts } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { createLog } from "./log.ts";
import { keepTrimmed } from "./trimming.ts";

const mebibyte = 2 ** 20;

it("gives space that was freed in the store's image back to the host", async (ctx) => {
  const reason = whyNoMounts();
  if (reason) ctx.skip(reason);
  await using home = await temporaryDirectory();
  await using volume = await openVolume({ home: home.path });
  if (volume.kind === "native") ctx.skip("temporary files are on a file system with reflinks");
  const lines: string[] = [];
  const heldBytes = async () => (await stat(path.join(home.path, "store.img"))).blocks * 512;
  const file = path.join(volume.path, "file");
  const before = await heldBytes();
  {
    await using _trimming = keepTrimmed(
      volume,
      createLog((line) => lines.push(line)),
    );
    await using handle = await open(file, "w");
    await handle.write(Buffer.alloc(100 * mebibyte, 1));
    await handle.sync();
    expect(await heldBytes()).toBeGreaterThan(before + 90 * mebibyte);
    await handle.close();
    await rm(file);
    await runProcess(["sync", "-f", volume.path], { operation: "sync the store" });
  }
  expect(await heldBytes()).toBeLessThan(before + 10 * mebibyte);
  expect(lines).toEqual([]);
});
