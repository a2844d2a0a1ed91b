import { type Content, type Descriptor, describe, type Platform } from "../descriptor.ts";
import { sha256 } from "../digest.ts";
import { canonicalJson } from "../json.ts";
import { annotationNames, artifactTypes, mediaTypes } from "../media-types.ts";
import { storedGzip, type TarEntry, tar } from "./tar.ts";

/** An image that containerd can pull and unpack, and that tells its shim which snapshot to start. */
export interface LauncherImage {
  manifest: Content;
  config: Content;
  layer: Content;
}

/** Where the launcher's root file system says which artifact it belongs to. */
export const launcherArtifactPath = ".sporelet/artifact.json";

/**
 * The launcher of an artifact. It has everything that a runtime insists on before it asks the shim: a command,
 * users, mount points. No program is in it: the shim resumes the snapshot instead of running one.
 *
 * @param artifact the manifest's descriptor, as `snapshotManifest` returns it
 * @param platform Default for os: linux
 */
export function launcherImage(artifact: Descriptor, platform: Pick<Platform, "architecture">): LauncherImage {
  const reference = { mediaType: artifact.mediaType, digest: artifact.digest, size: artifact.size };
  const files = tar(
    rootFileSystem(canonicalJson({ ...reference, artifactType: artifactTypes.snapshot }).toString()),
  );
  const layer = describe(storedGzip(files), mediaTypes.imageLayer, {
    annotations: { [annotationNames.snapshotterArtifact]: artifact.digest },
  });
  const config = describe(
    canonicalJson({
      architecture: platform.architecture,
      os: "linux",
      created: "1970-01-01T00:00:00Z",
      config: {
        Entrypoint: ["/.sporelet/launch"],
        // Makes the config, and with it the image's ID, one of its own.
        Labels: { [annotationNames.artifact]: artifact.digest },
      },
      rootfs: { type: "layers", diff_ids: [sha256(files)] },
    }),
    mediaTypes.imageConfig,
  );
  const manifest = describe(
    canonicalJson({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: artifactTypes.launcher,
      config: config.descriptor,
      layers: [layer.descriptor],
      subject: reference,
    }),
    mediaTypes.manifest,
    { artifactType: artifactTypes.launcher },
  );
  return { manifest, config, layer };
}

function rootFileSystem(artifact: string): TarEntry[] {
  const directories = [".sporelet", "dev", "etc", "proc", "run", "sys", "tmp"];
  return [
    ...directories.map((path) => ({ path, mode: path === "tmp" ? 0o1777 : 0o755 })),
    { path: launcherArtifactPath, mode: 0o644, content: artifact },
    { path: "etc/group", mode: 0o644, content: "root:x:0:\n" },
    { path: "etc/passwd", mode: 0o644, content: "root:x:0:0:root:/:/sbin/nologin\n" },
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
}
