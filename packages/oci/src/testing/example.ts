import { launcherImage } from "../artifact/launcher.ts";
import { pageImageLayer, wholeFileLayer } from "../artifact/layers.ts";
import { snapshotManifest } from "../artifact/snapshot.ts";
import { artifactIndex } from "../artifact/variants.ts";
import type { Content } from "../descriptor.ts";
import { sha256 } from "../digest.ts";

/** A whole published snapshot with made-up content: a chain of two, as docs/formats/artifact.md shows it. */
export function examplePublication() {
  const blobs: Buffer[] = [];
  const blob = (text: string) => {
    const bytes = Buffer.from(text);
    blobs.push(bytes);
    return { digest: sha256(bytes), sizeBytes: bytes.length };
  };
  const pageImage = (file: "memory" | "disk", layer: number) => {
    const content = blob(`${file} of layer ${layer}`);
    const index = { digest: sha256(Buffer.from("index")), offset: 4, sizeBytes: 8 };
    return pageImageLayer({ file, layer, index, ...content });
  };
  const whole = (file: "vmstate" | "workingset" | "kernel" | "initramfs") =>
    wholeFileLayer({ file, rawBytes: 4096, ...blob(`${file}, compressed`) });
  const layers = [
    ...[0, 1].map((layer) => pageImage("memory", layer)),
    ...[0, 1].map((layer) => pageImage("disk", layer)),
    ...(["vmstate", "workingset", "kernel", "initramfs"] as const).map(whole),
  ];
  const { manifest, config } = snapshotManifest({ config: Buffer.from('{"formatVersion":2}'), layers });
  const launcher = launcherImage(manifest.descriptor, { architecture: "amd64" });
  const index = artifactIndex({
    variants: [
      {
        artifact: manifest.descriptor,
        launcher: launcher.manifest.descriptor,
        architecture: "amd64",
        snapshot: config.descriptor.digest,
        requirements: {
          "ai.sporelet.accelerator": "tcg",
          "ai.sporelet.agent.protocol": "1",
          "ai.sporelet.vmm": "qemu",
          "ai.sporelet.vmm.version": "7.2.22",
        },
      },
    ],
  });
  const contents: Content[] = [config, launcher.config, launcher.layer];
  return { blobs: [...blobs, ...contents.map(({ bytes }) => bytes)], manifest, config, launcher, index };
}
