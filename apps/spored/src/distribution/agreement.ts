import { SporeletError } from "@sporelet/errors";
import type { SnapshotManifest } from "@sporelet/oci";
import { type SnapshotConfig, type SnapshotFile, snapshotFiles } from "@sporelet/store";

/** What a manifest says of the sizes of files: undefined for those of images, which are in their blobs. */
export function sizesOf({
  memory,
  disk,
  files,
}: Pick<SnapshotManifest, "memory" | "disk" | "files">): Map<SnapshotFile, number | undefined> {
  const sizes = new Map<SnapshotFile, number | undefined>();
  for (const { file } of [...memory, ...disk]) sizes.set(file, undefined);
  for (const { file, rawBytes } of Object.values(files)) sizes.set(file, rawBytes);
  return sizes;
}

/**
 * Refuses an artifact whose files are not those of its config, before anything is fetched or made of it. What the
 * config says is what there has to be room for.
 *
 * @param sizes of the files that the artifact has; undefined where it does not say, which its blobs do
 * @throws SporeletError `corrupt`
 */
export function requireAgreement(
  name: string,
  config: Pick<SnapshotConfig, "files">,
  sizes: ReadonlyMap<SnapshotFile, number | undefined>,
): void {
  for (const file of snapshotFiles) {
    const record = config.files[file];
    if (sizes.has(file) !== (record !== undefined)) {
      const [has, lacks] = record === undefined ? ["layers", "config"] : ["config", "layers"];
      throw disagreement(name, `${file} is in its ${has} and not in its ${lacks}`);
    }
    const sizeBytes = sizes.get(file);
    if (record !== undefined && sizeBytes !== undefined) requireSize(name, file, sizeBytes, record.sizeBytes);
  }
}

/** @throws SporeletError `corrupt` when they differ */
export function requireSize(
  name: string,
  file: SnapshotFile,
  actualBytes: number,
  configBytes: number,
): void {
  if (actualBytes === configBytes) return;
  throw disagreement(name, `its ${file} has ${actualBytes} bytes, and its config says ${configBytes}`);
}

function disagreement(name: string, reason: string): SporeletError {
  return new SporeletError({
    code: "corrupt",
    operation: "read the artifact",
    subject: name,
    reason,
    hint: "its manifest does not belong to its config: whoever published it has to push the snapshot again",
  });
}
