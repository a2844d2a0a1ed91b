import { readFile } from "node:fs/promises";

/**
 * Name servers that a clone can use: the host's that are reachable by IPv4 from another namespace. Where
 * the host asks a resolver of its own on a loopback address (systemd-resolved), those that it asks in turn.
 * None when the host has none; nobody else's are put in their place.
 */
export async function nameServers(
  paths: readonly string[] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"],
): Promise<string[]> {
  for (const path of paths) {
    const servers = parseNameServers(await readFile(path, "utf8").catch(() => ""));
    if (servers.length > 0) return servers;
  }
  return [];
}

/** The usable `nameserver` lines of a resolv.conf(5); glibc reads the first three. */
export function parseNameServers(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/gm)]
    .map((match) => match[1] ?? "")
    .filter((address) => !address.startsWith("127.") && address !== "0.0.0.0")
    .slice(0, 3);
}
