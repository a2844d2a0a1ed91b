/** The names that Go gives to what `uname -m` calls x86_64 and aarch64; OCI took them over. */
const names: Record<string, string> = { x64: "amd64", arm64: "arm64" };

/** What this host's programs are made for, by OCI's names. */
export function hostArchitecture(): string {
  return names[process.arch] ?? process.arch;
}
