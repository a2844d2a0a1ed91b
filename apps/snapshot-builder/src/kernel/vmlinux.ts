/**
 * Gets the uncompressed ELF kernel out of a bzImage.
 *
 * A VMM that starts an ELF kernel directly spares the guest its own decompressor, which under software
 * emulation costs about 0.6 s of every cold boot. Offsets are those of the x86 boot protocol's setup header
 * (Linux: Documentation/arch/x86/boot.rst).
 */
import { SporeletError } from "@sporelet/errors";

type Compression = "gzip" | "xz" | "lz4" | "zstd" | "none";

export interface Payload {
  compression: Compression;
  /** The compressed kernel, without the 4-byte length that the kernel build appends. */
  bytes: Uint8Array;
  /** Size after decompression, as the kernel build recorded it. */
  uncompressedBytes: number;
}

const header = {
  setupSectors: 0x1f1,
  magic: 0x202,
  version: 0x206,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
};

/** First bytes of what the kernel build can choose (scripts/Makefile.lib); lz4 is the legacy frame. */
const magics: [Compression, number[]][] = [
  ["gzip", [0x1f, 0x8b]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ["lz4", [0x02, 0x21, 0x4c, 0x18]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["none", [0x7f, 0x45, 0x4c, 0x46]],
];

/**
 * Finds the compressed kernel in a bzImage.
 * @throws SporeletError `corrupt` when it is no bzImage, too old (boot protocol before 2.08), or cut short.
 */
export function findPayload(bzImage: Uint8Array, subject: string): Payload {
  const corrupt = (reason: string) =>
    new SporeletError({ code: "corrupt", operation: "extract the kernel from", subject, reason });
  const view = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  if (bzImage.length < 0x260 || view.getUint32(header.magic, true) !== 0x53726448)
    throw corrupt("it is no bzImage");
  if (view.getUint16(header.version, true) < 0x208) throw corrupt("its boot protocol is older than 2.08");
  // A count of 0 means 4, for very old loaders; one more sector is the boot sector itself.
  const start = ((bzImage[header.setupSectors] || 4) + 1) * 512 + view.getUint32(header.payloadOffset, true);
  const length = view.getUint32(header.payloadLength, true);
  if (length < 8 || start + length > bzImage.length) throw corrupt("it is cut short");
  const bytes = bzImage.subarray(start, start + length - 4);
  const found = magics.find(([, magic]) => magic.every((byte, i) => bytes[i] === byte));
  if (found === undefined) throw corrupt("its compression is unknown");
  return { compression: found[0], bytes, uncompressedBytes: view.getUint32(start + length - 4, true) };
}

/** Says what is wrong with a decompressed kernel, or nothing. */
export function kernelProblem(vmlinux: Uint8Array, payload: Payload): string | undefined {
  if (vmlinux.length !== payload.uncompressedBytes) {
    return `it has ${vmlinux.length} bytes where ${payload.uncompressedBytes} were expected`;
  }
  const elf = [0x7f, 0x45, 0x4c, 0x46].every((byte, i) => vmlinux[i] === byte);
  return elf ? undefined : "it is no ELF file";
}
