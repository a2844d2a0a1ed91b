import { SporeletError } from "@sporelet/errors";
import { corrupt, type JsonObject, parseJsonObject, type ReadContext } from "../json.ts";
import { artifactTypes, mediaTypes } from "../media-types.ts";
import { artifactLimits } from "./limits.ts";
import { type PlainArtifact, readPlainArtifact } from "./plain.ts";
import { artifactTypeOf, familyOf, readSnapshotManifest, type SnapshotManifest } from "./snapshot.ts";
import { type ArtifactIndex, readArtifactIndex } from "./variants.ts";

/** Everything that a reference can name and Sporelet can use. */
export type Artifact = ArtifactIndex | SnapshotManifest | PlainArtifact;

/**
 * Reads a manifest or index and tells what it is.
 *
 * @param subject how to call it in errors: the reference
 * @throws SporeletError `corrupt`; `incompatible` for ordinary images and for versions that are not known here
 */
export function parseArtifact(bytes: Uint8Array, subject?: string): Artifact {
  const context: ReadContext = { operation: "read the artifact", subject };
  const manifest = parseManifest(bytes, context);
  if (manifest.manifests !== undefined) {
    if (manifest.mediaType === mediaTypes.dockerIndex) throw notSnapshot(context);
    return readArtifactIndex(manifest, context);
  }
  const type = artifactTypeOf(manifest);
  if (familyOf(type) === familyOf(artifactTypes.firecracker)) return readPlainArtifact(manifest, context);
  if (familyOf(type) === familyOf(artifactTypes.snapshot)) return readSnapshotManifest(manifest, context);
  throw notSnapshot(context, type);
}

/** {@link parseArtifact} where only an index will do. */
export function parseArtifactIndex(bytes: Uint8Array, subject?: string): ArtifactIndex {
  const context: ReadContext = { operation: "read the artifact's index", subject };
  return readArtifactIndex(parseManifest(bytes, context), context);
}

/** {@link parseArtifact} where only the manifest of a snapshot will do. */
export function parseSnapshotManifest(bytes: Uint8Array, subject?: string): SnapshotManifest {
  const context: ReadContext = { operation: "read the artifact's manifest", subject };
  return readSnapshotManifest(parseManifest(bytes, context), context);
}

function parseManifest(bytes: Uint8Array, context: ReadContext): JsonObject {
  if (bytes.length > artifactLimits.manifestBytes) {
    throw corrupt(
      context,
      `it has ${bytes.length} bytes; at most ${artifactLimits.manifestBytes} are allowed`,
    );
  }
  return parseJsonObject(bytes, context);
}

function notSnapshot(context: ReadContext, type?: string): SporeletError {
  return new SporeletError({
    ...context,
    code: "incompatible",
    reason: type === undefined || type === "" ? "it is not a snapshot" : `it is not a snapshot but a ${type}`,
    hint: "container images are built into snapshots with sporectl build",
  });
}
