import { SporeletError } from "@sporelet/errors";
import {
  formatImageReference,
  type ImageReference,
  type PlainArtifact,
  parseArtifact,
  type Repository,
  type SnapshotManifest,
} from "@sporelet/oci";
import type { Node } from "../node.ts";
import { chooseVariant, gateHost } from "../requirements.ts";
import type { Reports } from "./reports.ts";

/** A snapshot in a registry: the variant that fits this host best. */
export interface LocatedSnapshot {
  artifact: SnapshotManifest | PlainArtifact;
  repository: Repository;
  /** As a person writes it. */
  name: string;
}

/**
 * Reads what a reference names, and of several variants chooses the one that this host can resume. When there is
 * none, the first that can at least be booted is taken, and a notice says precisely why.
 *
 * @throws SporeletError `not_found`, `incompatible` when it is no snapshot, `corrupt`, `unavailable`,
 *   `permission_denied`
 */
export async function locate(
  node: Node,
  repository: Repository,
  reference: ImageReference,
  reports: Reports,
  signal: AbortSignal,
): Promise<LocatedSnapshot> {
  const name = formatImageReference(reference);
  const { bytes } = await repository.manifest(reference.digest ?? reference.tag ?? "latest", { signal });
  const found = parseArtifact(bytes, name);
  if (found.kind !== "index") return { artifact: found, repository, name };
  const host = await gateHost(node);
  const choice = chooseVariant(found.variants, host);
  const variant = "chosen" in choice ? choice.chosen : (choice.bootable ?? found.variants[0]);
  if (variant === undefined) throw nothingListed(name);
  if (!("chosen" in choice)) {
    const reasons = choice.refusals.map(({ reason }) => reason);
    reports.notice(
      `this host cannot restore the state of ${name}: ${[...new Set(reasons)].join("; ")}. ` +
        (choice.bootable === undefined
          ? "Nor can it be booted here"
          : "Its kernel and disk can be booted: run does that once and keeps the result"),
    );
  }
  const manifest = await repository.manifest(variant.artifact.digest, { signal });
  const artifact = parseArtifact(manifest.bytes, name);
  if (artifact.kind === "index") throw nothingListed(name);
  if (artifact.kind === "snapshot" && artifact.config.digest !== variant.snapshot) {
    throw new SporeletError({
      code: "corrupt",
      operation: "read the artifact",
      subject: name,
      reason: "its index names another snapshot than its manifest",
    });
  }
  return { artifact, repository, name };
}

function nothingListed(name: string): SporeletError {
  return new SporeletError({
    code: "corrupt",
    operation: "read the artifact",
    subject: name,
    reason: "its index lists no snapshot",
  });
}
