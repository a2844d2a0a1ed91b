import { writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "../process.ts";
import { freeLinks, type Link, linkOf, namespaceName, parseNamespaceName } from "./addresses.ts";
import type { HostNetwork } from "./host-rules.ts";
import { withNetworkLock } from "./lock.ts";
import { inNetns } from "./netns.ts";
import { createInNamespace, createOnHost, namespaceRules } from "./rules.ts";

/** Where ip-netns(8) keeps named namespaces. */
export const netnsDirectory = "/run/netns";

/**
 * Makes namespaces with everything that a clone needs. Those of one call share two runs of `ip` and one
 * of `nft` on the host. When anything fails, nothing of it is left.
 *
 * @returns their names.
 */
export async function createNamespaces(
  host: HostNetwork,
  owner: string,
  count: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const made: string[] = [];
  try {
    const links = await withNetworkLock(async () => {
      const free = freeLinks([...host.interfaces(), ...(await linksOfNames())], count);
      if (free.length < count) throw tooMany();
      // Noted first: what a line that fails leaves half-made is removed too.
      for (const { index } of free) made.push(namespaceName(owner, index));
      await host.ip(
        free.flatMap((link) => createOnHost(namespaceName(owner, link.index), link)),
        { signal },
      );
      await host.ensureRules(signal);
      return free;
    });
    for (const link of links) await fillNamespace(namespaceName(owner, link.index), link, signal);
    return made;
  } catch (error) {
    await removeNamespaces(host, made);
    throw SporeletError.from(error, { operation: "make a network for a clone" });
  }
}

async function fillNamespace(name: string, link: Link, signal?: AbortSignal): Promise<void> {
  const netns = `${netnsDirectory}/${name}`;
  const options = { operation: "set up the network namespace of a clone", netns, signal, timeoutMs: 30_000 };
  inNetns(netns, () => writeFileSync("/proc/sys/net/ipv4/ip_forward", "1"));
  const commands = `${createInNamespace(link).join("\n")}\n`;
  await Promise.all([
    runProcess(["ip", "-batch", "-"], { ...options, stdin: Buffer.from(commands) }),
    runProcess(["nft", "-f", "-"], { ...options, stdin: Buffer.from(namespaceRules) }),
  ]);
}

/** Removes namespaces and their links; those that are gone already are fine. */
export async function removeNamespaces(host: HostNetwork, names: string[]): Promise<void> {
  if (names.length === 0) return;
  await withNetworkLock(async () => {
    // The link goes at once; by itself it would go some time after the last process has left the namespace.
    const commands = names.flatMap((name) => {
      const index = parseNamespaceName(name)?.index;
      return index === undefined ? [] : [`link del ${linkOf(index).hostInterface}`, `netns del ${name}`];
    });
    await host.ip(commands, { force: true });
    await host.removeRulesIfUnused();
  });
}

/** Names of this owner's namespaces on this host. */
export async function namespacesOf(owner: string): Promise<string[]> {
  return (await allNames()).filter((name) => parseNamespaceName(name)?.owner === owner);
}

/** Links of namespaces whose host side is missing, or is in another network: not to be used either. */
async function linksOfNames(): Promise<string[]> {
  return (await allNames()).flatMap((name) => {
    const index = parseNamespaceName(name)?.index;
    return index === undefined ? [] : [linkOf(index).hostInterface];
  });
}

async function allNames(): Promise<string[]> {
  return readdir(netnsDirectory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

function tooMany(): SporeletError {
  return new SporeletError({
    code: "resource_exhausted",
    operation: "make a network for a clone",
    reason: "all 16,384 links of 10.108.0.0/16 are in use",
    hint: "remove machines that are no longer needed",
  });
}
