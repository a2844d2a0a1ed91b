import { createReadStream, createWriteStream } from "node:fs";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import { cloneFile } from "@sporelet/host";
import type { Repository, SnapshotManifest, WholeFileLayer } from "@sporelet/oci";
import { materialize, readChain } from "@sporelet/page-image";
import {
  type ImageFile,
  imageFiles,
  type PublishedLayer,
  parseConfig,
  type SnapshotConfig,
  type SnapshotFile,
  type StoredSnapshot,
} from "@sporelet/store";
import type { Node } from "../node.ts";
import { removeUnnamed } from "../snapshots.ts";
import { allOrStop, createGate, together } from "../together.ts";
import { requireAgreement, requireSize, sizesOf } from "./agreement.ts";
import { downloadBlob } from "./download.ts";
import { layerOf, titleOf } from "./layers.ts";
import { type LocalBase, layersBeyond, localBase } from "./local-base.ts";
import type { Reports } from "./reports.ts";
import { requireRoom } from "./room.ts";

const downloadsAtOnce = 4;
/** Each step of a stream waits for one of libuv's threads, behind the frames of the images. */
const stepBytes = 1024 * 1024;

/**
 * Fetches a snapshot into the store: blobs that are not here, then flat files out of them, which are all
 * verified before the snapshot appears. Steps of the chain that a snapshot in the store is made of are not
 * fetched; its files are the base.
 */
export async function fetchSnapshot(
  node: Node,
  repository: Repository,
  artifact: SnapshotManifest,
  name: string,
  reports: Reports,
  signal: AbortSignal,
): Promise<StoredSnapshot> {
  const configBytes = await repository.readBlob(artifact.config, { signal });
  const config = parseConfig(configBytes.toString("utf8"), name);
  requireAgreement(name, config, sizesOf(artifact));
  const layers = artifact.layers.map(layerOf);
  using base = await localBase(node, layers);
  const inherited = inheritedFiles(base, config);
  const needed = layersBeyond(base, layers).filter(({ file }) => !inherited.has(file));
  await requireRoom(node, name, { config, layers: needed, base: base?.snapshot });
  using _lease = node.store.leaseBlobs(
    needed.map(({ digest }) => digest),
    `pull of ${name}`,
  );
  const gate = createGate(downloadsAtOnce);
  const download = (file: SnapshotFile, until: AbortSignal) =>
    together(
      needed
        .filter((layer) => layer.file === file)
        .map((layer) =>
          gate(async () => {
            until.throwIfAborted();
            const report = reports.item(`down ${layer.digest}`, titleOf(layer, layers));
            await downloadBlob(node, repository, layer, report, until);
          }),
        ),
    );
  await using draft = await node.store.newSnapshot();
  const into = (file: string) => path.join(draft.directory, file);
  const verify = async (file: SnapshotFile, until: AbortSignal) =>
    await draft.verify(file, config, { name, base: base?.snapshot, signal: until });
  // Each file is unpacked and verified as soon as its own blobs are here, and is on the disk while others arrive.
  const images = imageFiles.map((file) => async (until: AbortSignal) => {
    const record = config.files[file];
    if (record === undefined) return;
    await download(file, until);
    const chain = artifact[file].map(({ descriptor }) => layerOf(descriptor));
    const image = { name, file, sizeBytes: record.sizeBytes, chain, base, target: into(file) };
    await unpackImage(node, image, until);
    await verify(file, until);
  });
  const wholes = Object.values(artifact.files).map((layer) => async (until: AbortSignal) => {
    const same = inherited.get(layer.file);
    if (same !== undefined) return void (await cloneFile(same, into(layer.file), { signal: until }));
    await download(layer.file, until);
    await unpackWhole(node, layer, into(layer.file), until);
    await verify(layer.file, until);
  });
  await allOrStop([...images, ...wholes], signal);
  const check = reports.item(`check ${artifact.config.digest}`, "snapshot");
  check.state("checking");
  const snapshot = await draft.adopt(configBytes, undefined, { name, base: base?.snapshot, signal });
  const origins = [repository.name];
  try {
    await node.store.publications.set(snapshot.digest, { layers, origins });
  } catch (error) {
    await removeUnnamed(node, snapshot.digest);
    throw error;
  }
  check.state("done");
  return snapshot;
}

/** Files that travel whole and that the base has too, such as the kernel: paths by what they are. */
function inheritedFiles(base: LocalBase | undefined, { files }: SnapshotConfig): Map<SnapshotFile, string> {
  const found = new Map<SnapshotFile, string>();
  if (base === undefined) return found;
  for (const [file, { digest }] of Object.entries(files) as [SnapshotFile, { digest: string }][]) {
    const own = base.snapshot.files[file];
    if (file === "memory" || file === "disk" || own === undefined) continue;
    if (base.snapshot.config.files[file]?.digest === digest) found.set(file, own);
  }
  return found;
}

interface Image {
  /** The artifact's, for errors. */
  name: string;
  file: ImageFile;
  /** As the config has it. */
  sizeBytes: number;
  chain: readonly PublishedLayer[];
  base: LocalBase | undefined;
  target: string;
}

async function unpackImage(
  node: Node,
  { name, file, sizeBytes, chain, base, target }: Image,
  signal: AbortSignal,
): Promise<void> {
  const baseFile = base?.snapshot.files[file];
  const steps = baseFile === undefined ? chain : layersBeyond(base, chain);
  const blobs = await readChain(steps.map(({ digest }) => node.store.blobs.path(digest)));
  // Before anything is written: blobs of little can claim to be much.
  for (const { index } of blobs.slice(-1)) requireSize(name, file, index.imageBytes, sizeBytes);
  if (baseFile !== undefined) await cloneFile(baseFile, target, { signal });
  if (blobs.length > 0) await materialize({ blobs, target, onto: baseFile !== undefined, signal });
}

/** The size in the manifest bounds what is written, whatever the stream would give. */
async function unpackWhole(
  node: Node,
  { file, rawBytes, descriptor }: WholeFileLayer,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const wrong = (reason: string, cause?: unknown) =>
    new SporeletError({
      code: "corrupt",
      operation: "unpack",
      subject: file,
      reason,
      cause,
      hint: "it came as it was published: whoever published it has to push the snapshot again",
    });
  let bytes = 0;
  const limit = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > rawBytes) done(wrong(`it is larger than the ${rawBytes} bytes that its manifest says`));
      else done(null, chunk);
    },
  });
  const source = createReadStream(node.store.blobs.path(descriptor.digest), { highWaterMark: stepBytes });
  const decompress = createZstdDecompress({ chunkSize: stepBytes });
  try {
    await pipeline(source, decompress, limit, createWriteStream(target, { flags: "wx" }), { signal });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code?.startsWith("ZSTD_")) throw wrong("it is not a zstd stream, or a damaged one", error);
    throw error;
  }
  if (bytes < rawBytes)
    throw wrong(`it has ${bytes} bytes instead of the ${rawBytes} that its manifest says`);
}
