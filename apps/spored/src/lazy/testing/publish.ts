import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { zstdCompress } from "node:zlib";
import { type Descriptor, pageImageLayer, parseLayer, wholeFileLayer } from "@sporelet/oci";
import type { TestRegistry } from "@sporelet/oci/testing";
import { encodeBlob, type PageRun, type WorkingSet } from "@sporelet/page-image";
import type { StoredSnapshot } from "@sporelet/store";
import type { LazyLayers } from "../spec.ts";
import type { LazyStart } from "../types.ts";
import { configOf } from "./frozen-guest.ts";

const compress = promisify(zstdCompress);

/** Puts a snapshot's blobs into a registry of this process, and says how to start from there. */
export async function publishForTest(
  registry: TestRegistry,
  snapshot: StoredSnapshot,
  options: { address?: string; repository?: string; workingSet?: WorkingSet; scratch: string },
): Promise<LazyStart> {
  const { repository = "test/guest" } = options;
  const context = { operation: "publish" };
  const layers: { -readonly [K in keyof LazyLayers]: LazyLayers[K] } = { memory: [], disk: [], files: {} };
  const descriptors: Descriptor[] = [];
  for (const file of ["memory", "disk"] as const) {
    const image = snapshot.files[file];
    if (image === undefined) continue;
    const target = path.join(options.scratch, `${file}.blob`);
    const first: PageRun[] = (options.workingSet ?? []).filter((run) => run.image === file);
    const { index } = await encodeBlob({ image, target, first, level: 3 });
    const bytes = await readFile(target);
    await rm(target);
    const { digest } = registry.put(repository, bytes);
    const descriptor = pageImageLayer({ file, layer: 0, index, digest, sizeBytes: bytes.length });
    descriptors.push(descriptor);
    layers[file] = [parseLayer(descriptor, file, context) as LazyLayers["memory"][number]];
  }
  for (const file of ["vmstate", "kernel", "initramfs"] as const) {
    const source = snapshot.files[file];
    if (source === undefined) continue;
    const raw = await readFile(source);
    const bytes = await compress(raw);
    const { digest } = registry.put(repository, bytes);
    const descriptor = wholeFileLayer({ file, rawBytes: raw.length, digest, sizeBytes: bytes.length });
    descriptors.push(descriptor);
    layers.files = { ...layers.files, [file]: parseLayer(descriptor, file, context) };
  }
  const address = options.address ?? registry.address;
  return {
    name: `${address}/${repository}:latest`,
    configBytes: await configOf(snapshot),
    layers,
    origin: { access: accessForTest, registry: address, repository },
    tag: `${address}/${repository}:latest`,
    publication: { layers: [], origins: [`${address}/${repository}`] },
  };
}

/** No credentials, no proxies. */
const accessForTest = {
  dockerConfig: "",
  plainHttp: false,
  caFile: "",
  httpProxy: "",
  httpsProxy: "",
  noProxy: "",
};
