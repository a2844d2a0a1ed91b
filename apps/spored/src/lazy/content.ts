import path from "node:path";
import { type FuseAccess, pageBytes } from "@sporelet/host";
import type { Repository } from "@sporelet/oci";
import { type BlobIndex, flatten, openFrame, type WorkingSet } from "@sporelet/page-image";
import { requireSize } from "../distribution/agreement.ts";
import { fetchIndexes } from "./blobs.ts";
import { createFetcher, type Fetcher } from "./fetcher.ts";
import { createFillingImage, type FillingImage } from "./image.ts";
import { createPlanner, type Piece } from "./planner.ts";
import type { FetchSpec, LazyLayers } from "./spec.ts";

/** One of the images whose frames are fetched. */
interface LazyImage {
  readonly image: FillingImage;
  /** Undefined when the range is there, else what it waits for. */
  ready(offset: number, bytes: number, access: FuseAccess): Promise<void> | undefined;
}

/** Memory and disk of a snapshot while they are being fetched. */
export interface LazyContent extends AsyncDisposable {
  readonly memory: LazyImage;
  readonly disk?: LazyImage;
  readonly fetcher: Fetcher;
  /** Compressed bytes of all frames. */
  readonly totalBytes: number;
}

export interface ContentOptions {
  repository: Repository;
  layers: LazyLayers;
  /** The artifact's, for errors. */
  name: string;
  /** See `FetchSpec`. */
  imageBytes: FetchSpec["imageBytes"];
  directory: string;
  workingSet: WorkingSet;
  patienceMs?: number | undefined;
  onChange(): void;
  /** A request that somebody waits for has failed. */
  onVictim(access: FuseAccess, error: unknown): void;
  /** Pages of memory came that somebody wanted, or will want soon. */
  onHot(page: number, content: Buffer): void;
  signal: AbortSignal;
}

/** A frame of an image, as a piece to fetch. */
interface FramePiece extends Piece {
  image: "memory" | "disk";
  /** Position in the frames of the flat image. */
  position: number;
  index: BlobIndex;
  /** Position in the frames of the blob. */
  frame: number;
}

/** Fetches the indexes, makes the flat files, and begins to fetch the working set. */
export async function openContent(options: ContentOptions): Promise<LazyContent> {
  const { repository, layers, directory, signal } = options;
  await using undo = new AsyncDisposableStack();
  const chains = { memory: layers.memory, disk: layers.disk };
  const descriptors = [...layers.memory, ...layers.disk].map(({ descriptor }) => descriptor);
  const open = async (name: "memory" | "disk") => {
    const indexes = await fetchIndexes(repository, chains[name], signal);
    const flat = flatten(indexes);
    // Before anything is made of it: blobs of little can claim to be much.
    requireSize(options.name, name, flat.imageBytes, options.imageBytes[name]);
    const image = undo.use(await createFillingImage(path.join(directory, name), flat));
    return { name, indexes, flat, image };
  };
  const [memory, disk] = await Promise.all([
    open("memory"),
    layers.disk.length > 0 ? open("disk") : undefined,
  ]);
  const images = { memory, ...(disk && { disk }) };
  const pieces: FramePiece[] = [];
  const firstPiece = { memory: 0, disk: 0 };
  for (const { name, flat, indexes } of [memory, ...(disk ? [disk] : [])]) {
    firstPiece[name] = pieces.length;
    for (const [position, { layer, frame }] of flat.frames.entries()) {
      const index = indexes[layer] as BlobIndex;
      const { offset, sizeBytes } = index.frames[frame] as BlobIndex["frames"][number];
      const blob = name === "memory" ? layer : layers.memory.length + layer;
      pieces.push({ blob, offset, sizeBytes, image: name, position, index, frame });
    }
  }
  const first: number[] = [];
  for (const { image: name, page: begin, count } of options.workingSet) {
    const { frameOf, imageBytes = 0 } = images[name]?.flat ?? {};
    // It comes from outside: pages past the image's end are not looked for.
    const end = Math.min(begin + count, Math.ceil(imageBytes / pageBytes));
    for (let page = begin; frameOf && page < end; page++) {
      const position = frameOf(page);
      if (position !== undefined && first.at(-1) !== firstPiece[name] + position)
        first.push(firstPiece[name] + position);
    }
  }
  const hot = new Set(first);
  const planner = createPlanner(pieces, { first });
  const fetcher = createFetcher({
    pieces,
    planner,
    source: {
      read: (blob, { offset, bytes, signal: reading }) =>
        repository.streamBlob(descriptors[blob] as (typeof descriptors)[number], {
          offset,
          length: bytes,
          signal: reading,
        }),
    },
    async accept(piece, bytes) {
      const { image: name, index, frame, position } = pieces[piece] as FramePiece;
      const raw = await openFrame(index, frame, bytes, `the ${name} in ${repository.name}`);
      await images[name]?.image.put(position, raw);
      if (name !== "memory" || !hot.delete(piece)) return;
      for (const write of memory.flat.frames[position]?.writes ?? []) {
        options.onHot(write.page, raw.subarray(write.at, write.at + write.count * pageBytes));
      }
    },
    onChange: options.onChange,
    ...(options.patienceMs !== undefined && { patienceMs: options.patienceMs }),
  });
  undo.defer(() => fetcher.close());

  const lazy = (name: "memory" | "disk", image: FillingImage): LazyImage => ({
    image,
    ready(offset, bytes, access) {
      const missing = image.missing(offset, bytes);
      if (missing.length === 0) return undefined;
      const wanted = missing.map((position) => firstPiece[name] + position);
      if (name === "memory") for (const piece of wanted) hot.add(piece);
      return fetcher.need(wanted).catch((error) => {
        options.onVictim(access, error);
        throw error;
      });
    },
  });
  const owned = undo.move();
  return {
    memory: lazy("memory", memory.image),
    ...(disk && { disk: lazy("disk", disk.image) }),
    fetcher,
    totalBytes: pieces.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
