import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadOrder, moduleName, parseModulesDep } from "./modules.ts";

describe("the load order of kernel modules", () => {
  it("puts each module after everything that it needs, and each only once", () => {
    // A random graph without cycles: module i needs only modules with a smaller number.
    const graph = fc
      .integer({ min: 1, max: 15 })
      .chain((count) =>
        fc.tuple(
          ...Array.from({ length: count }, (_, i) => fc.subarray(Array.from({ length: i }, (_, j) => j))),
        ),
      );
    fc.assert(
      fc.property(graph, fc.infiniteStream(fc.boolean()), (needs, choice) => {
        const path = (i: number) => `kernel/m${i}.ko`;
        const text = needs.map((all, i) => `${path(i)}: ${all.map(path).join(" ")}`).join("\n");
        const wanted = needs.map((_, i) => `m${i}`).filter(() => choice.next().value);
        const { files, missing } = loadOrder(wanted, parseModulesDep(text), "");
        expect(missing).toEqual([]);
        expect(new Set(files).size).toBe(files.length);
        for (const name of wanted) expect(files.map(moduleName)).toContain(name);
        for (const [at, file] of files.entries()) {
          const index = Number(moduleName(file).slice(1));
          for (const needed of needs[index] ?? []) expect(files.slice(0, at)).toContain(path(needed));
        }
      }),
    );
  });

  it("takes dashes and underscores for the same, as the kernel does", () => {
    const dependencies = parseModulesDep("kernel/drivers/char/hw_random/virtio-rng.ko:\n");
    expect(loadOrder(["virtio_rng"], dependencies, "").files).toEqual([
      "kernel/drivers/char/hw_random/virtio-rng.ko",
    ]);
  });

  it("needs no file for what is built in, and names what is in neither form", () => {
    const { files, missing } = loadOrder(["ext4", "nonesuch"], new Map(), "kernel/fs/ext4/ext4.ko\n");
    expect(files).toEqual([]);
    expect(missing).toEqual(["nonesuch"]);
  });
});
