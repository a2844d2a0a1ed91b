import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { SporeletError } from "@sporelet/errors";
import type { Repository } from "@sporelet/oci";
import type { PublishedLayer } from "@sporelet/store";
import type { Node } from "../node.ts";
import { createQueues } from "../together.ts";
import type { ItemReport } from "./reports.ts";

/** Of what arrives, so much waits in memory for the disk. */
const gatheredBytes = 1024 * 1024;

/** The same blob is fetched once, however many pulls need it. */
const queues = createQueues();

/**
 * Fetches a blob into the store, unless it is there, and verifies it. An attempt that was interrupted, in this
 * process or an earlier one, is gone on with.
 *
 * @param signal also ends waiting for another one that fetches it, which goes on
 * @returns bytes that came over the wire
 * @throws SporeletError `corrupt` when the registry has other content under this digest; what was fetched is
 *   thrown away
 */
export function downloadBlob(
  node: Pick<Node, "store">,
  repository: Repository,
  layer: PublishedLayer,
  report: ItemReport,
  signal: AbortSignal,
): Promise<number> {
  const fetchIt = async () => {
    const { blobs } = node.store;
    const { digest, sizeBytes } = layer;
    if (await blobs.has(digest)) {
      report.state("exists", sizeBytes);
      return 0;
    }
    const partial = await blobs.partial(digest);
    let receivedBytes = 0;
    for (;;) {
      const hash = createHash("sha256");
      const haveBytes = await hashExisting(partial, sizeBytes, hash, signal);
      report.state("transferring", sizeBytes);
      report.progress(haveBytes);
      const to = { partial, haveBytes, hash, report, signal };
      const bytes = await receive(repository, layer, to).catch(async (error: unknown) => {
        // Of what nothing has arrived, nothing is to stay.
        if ((await stat(partial).catch(() => undefined))?.size === 0) await blobs.discardPartial(digest);
        throw error;
      });
      receivedBytes += bytes;
      if (haveBytes + bytes === sizeBytes && `sha256:${hash.digest("hex")}` === digest) break;
      await blobs.discardPartial(digest);
      if (haveBytes > 0) continue; // What was left here may be what is wrong, after a crash of the host.
      throw new SporeletError({
        code: "corrupt",
        operation: "fetch",
        subject: `${layer.file} (${digest.slice(0, 19)}) from ${repository.name}`,
        reason: "what the registry sent is not what its digest says",
        hint: "try again; if it stays so, the registry's copy is damaged",
      });
    }
    await blobs.put(partial, digest);
    report.state("done", sizeBytes);
    return receivedBytes;
  };
  return queues(`${node.store.root} ${layer.digest}`, fetchIt, signal);
}

/** @returns how much of the file is there, and goes on to be used */
async function hashExisting(
  file: string,
  limitBytes: number,
  hash: Hash,
  signal: AbortSignal,
): Promise<number> {
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  // A crash of the host can leave a file longer than what was written: then all is fetched anew.
  const length = Math.min(found?.size ?? 0, limitBytes);
  if (length === 0) return 0;
  for await (const chunk of createReadStream(file, { end: length - 1, signal })) hash.update(chunk);
  return length;
}

async function receive(
  repository: Repository,
  { mediaType, digest, sizeBytes }: PublishedLayer,
  to: { partial: string; haveBytes: number; hash: Hash; report: ItemReport; signal: AbortSignal },
): Promise<number> {
  const { haveBytes, signal } = to;
  await using file = await open(to.partial, haveBytes === 0 ? "w" : "r+", 0o600);
  await file.truncate(haveBytes);
  let received = 0;
  const arriving = async function* () {
    const descriptor = { mediaType, digest, size: sizeBytes };
    for await (const chunk of repository.streamBlob(descriptor, { offset: haveBytes, signal })) {
      to.hash.update(chunk);
      received += chunk.length;
      to.report.progress(haveBytes + received);
      yield chunk;
    }
  };
  // What arrives while something is written is gathered: each write waits for one of libuv's threads, behind the frames
  // that are unpacked. It is on the disk when it is closed.
  const writing = file.createWriteStream({ start: haveBytes, highWaterMark: gatheredBytes, flush: true });
  await pipeline(arriving, writing);
  return received;
}
