import { findProgram } from "../find-program.ts";
import { installCommand } from "../programs.ts";
import { type Check, degraded, missing, ok } from "./check.ts";

/** Programs, their packages, and what does not work without them. */
const programs = [
  { id: "mmdebstrap", package: "mmdebstrap", neededFor: "building root file systems" },
  { id: "mke2fs", package: "e2fsprogs", neededFor: "building disks" },
  { id: "skopeo", package: "skopeo", neededFor: "images from registries and OCI layouts", optional: true },
  { id: "ip", package: "iproute2", neededFor: "networks of clones", root: true },
  { id: "nft", package: "nftables", neededFor: "networks of clones", root: true },
];

/** Node's oldest version with what Sporelet uses: zlib's zstd. */
const oldestNode = [22, 15] as const;

export async function programChecks(): Promise<Check[]> {
  const checks = programs.map(async (program): Promise<Check> => {
    const title = `${program.id} (${program.neededFor})`;
    const path = await findProgram(program.id);
    if (path !== undefined) return ok(program.id, title, path);
    const remedy = installCommand(program.package);
    const spared = program.optional || (program.root && process.getuid?.() !== 0);
    return (spared ? degraded : missing)(program.id, title, "not installed", remedy);
  });
  return [...(await Promise.all(checks)), nodeCheck(process.versions.node)];
}

export function nodeCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const recent = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);
  const remedy = `install Node ${oldestNode.join(".")} or later`;
  return recent ? ok("node", "Node", version) : missing("node", "Node", `${version} is too old`, remedy);
}
