import { type Content, type Descriptor, describe, parseAnnotations, parseDescriptor } from "../descriptor.ts";
import { type Digest, isDigest } from "../digest.ts";
import { canonicalJson, corrupt, type JsonObject, type ReadContext } from "../json.ts";
import { annotationNames, artifactTypes, mediaTypes } from "../media-types.ts";
import { artifactLimits } from "./limits.ts";
import { requireMediaType, requireVersion } from "./snapshot.ts";

/** One form of a snapshot in an index: the same thing for another VMM, version or processor. */
export interface Variant {
  /** The manifest of the artifact. */
  artifact: Descriptor;
  /** The manifest of its launcher; absent where the index has none. */
  launcher?: Descriptor;
  /** The snapshot's digest, that is of its config. */
  snapshot: Digest;
  /** What a host has to have, so that it can be chosen without fetching configs: names begin with `ai.sporelet.`. */
  requirements: Readonly<Record<string, string>>;
}

/** What a tag names: variants of one snapshot. */
export interface ArtifactIndex {
  kind: "index";
  variants: readonly Variant[];
  annotations: Readonly<Record<string, string>>;
}

const ownNames: ReadonlySet<string> = new Set(Object.values(annotationNames));
const requirementPattern = /^ai\.sporelet\.[a-z0-9.-]+$/;

/**
 * The index that is tagged. Launchers come before artifacts, so that clients which take the first entry of their
 * platform find something that runs; artifacts have the platform unknown/unknown, which containerd skips.
 *
 * @param options.variants each with its launcher's architecture
 */
export function artifactIndex(options: {
  variants: readonly (Variant & { launcher: Descriptor; architecture: string })[];
  annotations?: Readonly<Record<string, string>>;
}): Content {
  const launchers = options.variants.map(({ launcher, artifact, architecture }) => ({
    ...plain(launcher),
    artifactType: artifactTypes.launcher,
    platform: { os: "linux", architecture },
    annotations: { [annotationNames.role]: "launcher", [annotationNames.artifact]: artifact.digest },
  }));
  const artifacts = options.variants.map(({ artifact, snapshot, requirements }) => ({
    ...plain(artifact),
    artifactType: artifactTypes.snapshot,
    platform: { os: "unknown", architecture: "unknown" },
    annotations: {
      ...requirements,
      [annotationNames.role]: "snapshot",
      [annotationNames.snapshot]: snapshot,
    },
  }));
  const bytes = canonicalJson({
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: [...launchers, ...artifacts],
    annotations: options.annotations,
  });
  readArtifactIndex(JSON.parse(bytes.toString()), { operation: "describe the snapshot" });
  return describe(bytes, mediaTypes.index);
}

/**
 * Reads an index. Entries of other kinds, signatures for example, are passed over.
 *
 * @throws SporeletError `corrupt`; `incompatible` when all that it has is of other kinds or versions
 */
export function readArtifactIndex(index: JsonObject, context: ReadContext): ArtifactIndex {
  requireMediaType(index, mediaTypes.index, context);
  const { manifests } = index;
  if (!Array.isArray(manifests)) throw corrupt(context, "it has no manifests");
  if (manifests.length > artifactLimits.variants) {
    throw corrupt(
      context,
      `it has ${manifests.length} entries; at most ${artifactLimits.variants} are allowed`,
    );
  }
  const entries = manifests.map((entry, i) =>
    parseDescriptor(entry, `manifests[${i}]`, artifactLimits.manifestBytes, context),
  );
  const snapshots = entries.filter((entry) => isSnapshotType(entry.artifactType));
  const readable = snapshots.filter((entry) => entry.artifactType === artifactTypes.snapshot);
  const [first] = snapshots.length > 0 ? snapshots : entries;
  if (readable.length === 0) {
    const type = first?.artifactType ?? first?.mediaType ?? "nothing";
    requireVersion(type, artifactTypes.snapshot, "what it lists", context);
  }
  const annotations = parseAnnotations(index, "the index", context) ?? {};
  return { kind: "index", variants: readable.map((entry) => variant(entry, entries, context)), annotations };
}

function variant(artifact: Descriptor, entries: readonly Descriptor[], context: ReadContext): Variant {
  const annotations = artifact.annotations ?? {};
  const snapshot = annotations[annotationNames.snapshot];
  if (!isDigest(snapshot)) throw corrupt(context, `the entry ${artifact.digest} does not name its snapshot`);
  const launcher = entries.find(
    (entry) =>
      entry.artifactType === artifactTypes.launcher &&
      entry.annotations?.[annotationNames.artifact] === artifact.digest,
  );
  const requirements = Object.fromEntries(
    Object.entries(annotations).filter(([name]) => requirementPattern.test(name) && !ownNames.has(name)),
  );
  return { artifact, ...(launcher === undefined ? {} : { launcher }), snapshot, requirements };
}

function isSnapshotType(type: string | undefined): boolean {
  return type?.startsWith("application/vnd.sporelet.snapshot.v") ?? false;
}

function plain({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}
