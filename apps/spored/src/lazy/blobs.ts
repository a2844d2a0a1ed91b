import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { SporeletError } from "@sporelet/errors";
import type { PageImageLayer, Repository, WholeFileLayer } from "@sporelet/oci";
import { type BlobIndex, chainBudget, parseIndex } from "@sporelet/page-image";
import { allOrStop } from "../together.ts";
import { withAttempts } from "./attempts.ts";

/**
 * Fetches the page indexes of a chain, which are the tails of its blobs. They come side by side, and what all of them
 * make is bounded: no index is read whose part the others have left no room for.
 *
 * @throws SporeletError `corrupt`, `incompatible`, `resource_exhausted`; what the registry's client throws
 */
export async function fetchIndexes(
  repository: Pick<Repository, "name" | "streamBlob">,
  chain: readonly PageImageLayer[],
  signal: AbortSignal,
): Promise<BlobIndex[]> {
  const budget = chainBudget();
  const fetch = async ({ descriptor, index }: PageImageLayer, until: AbortSignal) => {
    const chunks: Buffer[] = [];
    const range = { offset: index.offset, length: index.sizeBytes, signal: until };
    for await (const chunk of repository.streamBlob(descriptor, range)) chunks.push(chunk);
    const subject = `${descriptor.digest} of ${repository.name}`;
    return parseIndex(Buffer.concat(chunks), index, { subject, budget });
  };
  const found: BlobIndex[] = [];
  const tasks = chain.map((layer, n) => async (until: AbortSignal) => {
    found[n] = await withAttempts(until, () => fetch(layer, until));
  });
  await allOrStop(tasks, signal);
  return found;
}

/**
 * Fetches a file that is one zstd stream, verifies it and unpacks it on the way.
 *
 * @throws SporeletError `corrupt` when it is not what its descriptor says; no file is left then
 */
export function fetchWhole(
  repository: Repository,
  file: WholeFileLayer,
  target: string,
  options: WholeOptions,
): Promise<void> {
  return withAttempts(options.signal, () => tryWhole(repository, file, target, options));
}

export interface WholeOptions {
  signal: AbortSignal;
  /** Called as bytes come. */
  onBytes?: (bytes: number) => void;
}

async function tryWhole(
  repository: Repository,
  { file, rawBytes, descriptor }: WholeFileLayer,
  target: string,
  options: WholeOptions,
): Promise<void> {
  const { signal, onBytes = () => {} } = options;
  const wrong = (reason: string, cause?: unknown) =>
    new SporeletError({
      code: "corrupt",
      operation: "fetch",
      subject: `${file} from ${repository.name}`,
      reason,
      hint: "try again; if it stays so, the registry's copy is damaged",
      cause,
    });
  const hash = createHash("sha256");
  let received = 0;
  let unpacked = 0;
  const verify = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      received += chunk.length;
      onBytes(chunk.length);
      done(null, chunk);
    },
  });
  const limit = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      unpacked += chunk.length;
      if (unpacked > rawBytes) done(wrong(`it is larger than the ${rawBytes} bytes that its manifest says`));
      else done(null, chunk);
    },
  });
  const source = Readable.from(repository.streamBlob(descriptor, { signal }), { objectMode: false });
  try {
    await pipeline(
      source,
      verify,
      createZstdDecompress(),
      limit,
      createWriteStream(target, { mode: 0o600 }),
      { signal },
    );
    if (received !== descriptor.size || `sha256:${hash.digest("hex")}` !== descriptor.digest) {
      throw wrong("what the registry sent is not what its digest says");
    }
    if (unpacked !== rawBytes) throw wrong(`it has ${unpacked} bytes instead of ${rawBytes}`);
  } catch (error) {
    await rm(target, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    throw code?.startsWith("ZSTD_") ? wrong("it is not a zstd stream, or a damaged one", error) : error;
  }
}
