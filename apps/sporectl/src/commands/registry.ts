import { maybe, one } from "../cli/arguments.ts";
import { defineCommand } from "../cli/command.ts";
import { flag, text } from "../cli/options.ts";
import { registryOptions } from "./registry-options.ts";

const credentialsText = `Credentials are those of docker login and sporectl login: $DOCKER_CONFIG/config.json (default: ~/.docker),
credential helpers included. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are respected.`;

const pushSignature = {
  args: {
    snapshot: one("NAME[:TAG]", "snapshot to publish", "snapshots"),
    target: maybe("TARGET", "REGISTRY/REPOSITORY:TAG (default: NAME, when it has that form)"),
  },
  options: {
    addVariant: flag(
      "--add-variant",
      "keep what the tag names already for other hosts, and add this snapshot to it",
    ),
    allowSecrets: flag("--allow-secrets", "publish even if it holds what looks like a secret"),
    ...registryOptions,
  },
};
export type PushSignature = typeof pushSignature;

export const push = defineCommand({
  name: "push",
  summary: "Publish a snapshot in a registry",
  description: `Sends what the registry lacks: a snapshot that was made from another one costs what it changed, and blobs
that another repository of the registry has are mounted. A push that was interrupted goes on where it stopped.

The snapshot's memory and disk are searched for private keys and access tokens first; one that holds any is
refused.

${credentialsText}

--json prints the reference, the digest to pin, the snapshot's digest, and the bytes sent and reused.`,
  signature: pushSignature,
  examples: [
    ["sporectl push hello registry.example/team/hello:v1", "Publish hello:latest under that name"],
    ["sporectl push hello 127.0.0.1:5000/hello:v1", "To a registry on this host, over plain HTTP"],
  ],
  json: true,
  load: () => import("../actions/push.ts"),
});

const pullSignature = {
  args: { reference: one("REFERENCE", "REGISTRY/REPOSITORY[:TAG], or @sha256:… instead of the tag") },
  options: {
    tag: text("-t, --tag <name[:tag]>", "another name for it here (default: REFERENCE)", "snapshots"),
    ...registryOptions,
  },
};
export type PullSignature = typeof pullSignature;

export const pull = defineCommand({
  name: "pull",
  summary: "Fetch a snapshot from a registry",
  description: `Of several variants the one that this host can resume is fetched; when there is none it is said why, and
run boots the machine cold once. Everything is verified before it appears. Layers whose parent is here
already are not fetched again, and an interrupted pull goes on where it stopped.

${credentialsText}`,
  signature: pullSignature,
  examples: [
    ["sporectl pull registry.example/team/hello:v1", "Fetch it under its own name"],
    ["sporectl pull 127.0.0.1:5000/hello:v1 -t hello", "Fetch it as hello:latest"],
  ],
  json: true,
  load: () => import("../actions/pull.ts"),
});

const exportSignature = {
  args: {
    snapshot: one("NAME[:TAG]", "snapshot to write out", "snapshots"),
    directory: one("DIR", "directory to write into; made when it is not there", "directories"),
  },
  options: { force: flag("-f, --force", "overwrite files that are there") },
};
export type ExportSignature = typeof exportSignature;

export const exportCommand = defineCommand({
  name: "export",
  summary: "Write a snapshot's files into a directory",
  description: `Writes layer1.mem (memory, a sparse file), layer1.vmstate, layer1.config, layer1.disk, and layer1.kernel and
layer1.initramfs for cold boots. What oras push makes of them can be pulled and run:

  oras push --artifact-type application/vnd.firecracker.layer.v1 REGISTRY/REPOSITORY:TAG layer1.*`,
  signature: exportSignature,
  examples: [["sporectl export hello ./hello-files", "Write the files of hello:latest"]],
  json: true,
  load: () => import("../actions/export.ts"),
});
