/**
 * zstd on libuv's threads, of one buffer into another. Node's own functions make a context and a zeroed output buffer
 * for each call; in 512 KiB frames that costs half as much again as the compression itself (1.0 against
 * 1.5 s of CPU for 400 MiB at level 3), and they take bytes behind a frame for granted.
 */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { type NativeFunction, nativeFunction } from "./native.ts";

interface Zstd {
  createContext: NativeFunction<unknown>;
  freeContext: NativeFunction<number>;
  setParameter: NativeFunction<number>;
  compress: NativeFunction<number>;
  decompress: NativeFunction<number>;
  errorName: NativeFunction<string>;
}

let loaded: Zstd | null | undefined;

/** Sizes and errors are of type size_t; errors are its last few values, so as a signed number they are negative. */
function load(): Zstd | null {
  const createContext = nativeFunction<unknown>("void *ZSTD_createCCtx()");
  const freeContext = nativeFunction<number>("int64_t ZSTD_freeCCtx(void *context)");
  const setParameter = nativeFunction<number>(
    "int64_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)",
  );
  const compress = nativeFunction<number>(
    "int64_t ZSTD_compress2(void *context, void *to, size_t room, const void *from, size_t length)",
  );
  const decompress = nativeFunction<number>(
    "int64_t ZSTD_decompress(void *to, size_t room, const void *from, size_t length)",
  );
  const errorName = nativeFunction<string>("const char *ZSTD_getErrorName(int64_t result)");
  if (!createContext || !freeContext || !setParameter || !compress || !decompress || !errorName) return null;
  return { createContext, freeContext, setParameter, compress, decompress, errorName };
}

/** Compresses buffers one after the other. Disposing of it, after the last call has ended, frees its memory. */
export interface ZstdCompressor extends Disposable {
  /**
   * Makes one frame whose header says its size. The input must not change until the promise settles.
   *
   * @returns bytes that are valid until the next call.
   */
  compress(raw: Buffer): Promise<Buffer>;
}

/** @param maxBytes size of the largest input. */
export function zstdCompressor(level: number, maxBytes: number): ZstdCompressor {
  loaded ??= load();
  if (loaded === null) return nodeCompressor(level);
  const zstd = loaded;
  const context = zstd.createContext();
  if (context === null) throw new Error("zstd has no memory for a context");
  zstd.setParameter(context, constants.ZSTD_c_compressionLevel, level);
  // ZSTD_compressBound: what does not compress takes a little more than it has.
  const output = Buffer.allocUnsafeSlow(maxBytes + Math.floor(maxBytes / 256) + 1024);
  return {
    async compress(raw) {
      const size = await zstd.compress.onThread(context, output, output.length, raw, raw.length);
      if (size < 0) throw new Error(`zstd: ${zstd.errorName(size)}`);
      return output.subarray(0, size);
    },
    [Symbol.dispose]: () => void zstd.freeContext(context),
  };
}

function nodeCompressor(level: number): ZstdCompressor {
  const compress = promisify(zstdCompress);
  return {
    compress: (raw) =>
      compress(raw, {
        chunkSize: Math.max(64 * 1024, raw.length + Math.floor(raw.length / 256) + 1024),
        params: { [constants.ZSTD_c_compressionLevel]: level },
      }),
    [Symbol.dispose]: () => {},
  };
}

/**
 * Decompresses a whole frame. Neither buffer must change until the promise settles.
 *
 * @param into takes what comes out, which has exactly its size.
 * @throws Error when the input is damaged, or is anything else than that.
 */
export async function zstdDecompressInto(into: Buffer, compressed: Buffer): Promise<void> {
  loaded ??= load();
  let size: number;
  if (loaded === null) {
    // One byte of room more than can be taken, so that zstd sees the end of the frame.
    const options = { chunkSize: Math.max(64, into.length + 1), maxOutputLength: Math.max(1, into.length) };
    const raw = await promisify(zstdDecompress)(compressed, options);
    size = raw.copy(into);
    if (raw.length > into.length) throw new Error("zstd: there is more than there is room for");
  } else {
    size = await loaded.decompress.onThread(into, into.length, compressed, compressed.length);
    if (size < 0) throw new Error(`zstd: ${loaded.errorName(size)}`);
  }
  if (size !== into.length) throw new Error(`zstd: there are ${size} bytes instead of ${into.length}`);
}
