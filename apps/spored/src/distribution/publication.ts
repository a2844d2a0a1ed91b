import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import { type Digest, encodeBlob, type PageRun } from "@sporelet/page-image";
import {
  type ImageFile,
  imageFiles,
  type PublishedLayer,
  type SnapshotFile,
  type StoredSnapshot,
} from "@sporelet/store";
import { readWorkingSet } from "../lazy/working-set.ts";
import type { Node } from "../node.ts";
import { together } from "../together.ts";
import { imageLayer, wholeLayer } from "./layers.ts";
import type { ItemReport, Reports } from "./reports.ts";

/** Files that are published whole. */
const wholeFiles = ["vmstate", "workingset", "kernel", "initramfs"] as const;
const wholeLevel = 3;

/**
 * The layers that a snapshot is published as: the pages of its ancestors, base first, its own, and the small
 * files. What is not known from an earlier time is encoded, into blobs in the store. An ancestor that is not
 * in the store any more ends the chain: what it had is then part of its child's own pages.
 */
export async function publishedLayers(
  node: Node,
  snapshot: StoredSnapshot,
  reports: Reports,
  signal: AbortSignal,
): Promise<PublishedLayer[]> {
  const known = await node.store.publications.get(snapshot.digest);
  if (known !== undefined) return known.layers;
  const parent = await parentOf(node, snapshot);
  const inherited =
    parent === undefined
      ? []
      : (await publishedLayers(node, parent, reports, signal)).filter(({ file }) => isImage(file));
  const own = await encodeOwn(node, { snapshot, parent, inherited, reports, signal });
  const layers = [...inherited, ...own];
  await node.store.publications.set(snapshot.digest, { layers, origins: [] });
  return layers;
}

/** Forgets how a snapshot and its ancestors were published, so that it is encoded anew. */
export async function forgetPublication(node: Node, snapshot: StoredSnapshot): Promise<void> {
  await node.store.publications.delete(snapshot.digest);
  const parent = await parentOf(node, snapshot);
  if (parent !== undefined) await forgetPublication(node, parent);
}

function isImage(file: SnapshotFile): boolean {
  return imageFiles.some((image) => image === file);
}

async function parentOf(node: Node, { config }: StoredSnapshot): Promise<StoredSnapshot | undefined> {
  if (config.parent === undefined) return undefined;
  try {
    return await node.store.resolve(config.parent);
  } catch (error) {
    if (error instanceof SporeletError && error.code === "not_found") return undefined;
    throw error;
  }
}

interface Encoding {
  snapshot: StoredSnapshot;
  parent: StoredSnapshot | undefined;
  inherited: readonly PublishedLayer[];
  reports: Reports;
  signal: AbortSignal;
}

async function encodeOwn(node: Node, encoding: Encoding): Promise<PublishedLayer[]> {
  const { snapshot, reports } = encoding;
  // Removed with all that is in it, also by the next spored should this one be killed.
  await using workspace = await node.store.newSnapshot();
  const target = (file: string) => path.join(workspace.directory, `${file}.blob`);
  const layerName = `layer ${snapshot.config.layer}`;
  const item = (file: SnapshotFile) => reports.item(`${snapshot.digest} ${file}`, `${file} of ${layerName}`);
  const images = imageFiles.flatMap((file) => {
    const image = snapshot.files[file];
    return image === undefined ? [] : [encodeImage(node, encoding, file, image, target(file), item(file))];
  });
  const wholes = wholeFiles.flatMap((file) => {
    const source = snapshot.files[file];
    return source === undefined ? [] : [compressWhole(node, encoding, file, source, target(file))];
  });
  return await together([...images, ...wholes]);
}

async function encodeImage(
  node: Node,
  { snapshot, parent, inherited, reports, signal }: Encoding,
  file: ImageFile,
  image: string,
  target: string,
  report: ItemReport,
): Promise<PublishedLayer> {
  const base = parent?.files[file];
  report.state("encoding");
  const first = await workingSet(snapshot, file, reports);
  const blob = await encodeBlob({
    image,
    ...(base !== undefined && { base }),
    ...(first !== undefined && { first }),
    target,
    onProgress: (done) => report.progress(done),
    signal,
  });
  await node.store.blobs.put(target, blob.digest);
  report.state("done", blob.sizeBytes);
  return imageLayer(file, inherited.filter((layer) => layer.file === file).length, blob);
}

/** Pages that a resume touches, in order; they come first in a blob. One that cannot be read is as good as none. */
async function workingSet(
  snapshot: StoredSnapshot,
  file: ImageFile,
  reports: Reports,
): Promise<PageRun[] | undefined> {
  const recorded = snapshot.files.workingset;
  if (recorded === undefined) return undefined;
  const runs = await readWorkingSet(recorded, (reason) =>
    reports.notice(`its working set is not used: ${reason}`),
  );
  return runs.filter(({ image }) => image === file);
}

async function compressWhole(
  node: Node,
  { signal }: Encoding,
  file: (typeof wholeFiles)[number],
  source: string,
  target: string,
): Promise<PublishedLayer> {
  const { size } = await stat(source);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const tee = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      done(null, chunk);
    },
  });
  const params = { [constants.ZSTD_c_compressionLevel]: wholeLevel };
  const compress = createZstdCompress({ params });
  await pipeline(createReadStream(source), compress, tee, createWriteStream(target, { flags: "wx" }), {
    signal,
  });
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  await node.store.blobs.put(target, digest);
  return wholeLayer(file, size, { digest, sizeBytes });
}
