/**
 * Addresses and names. Every guest has the same address on the same link, so that a frozen one finds its
 * network unchanged wherever it is resumed; what tells clones apart is the namespace around each, and the
 * link of that namespace to the host, a /30 out of 10.108.0.0/16.
 *
 *   guest 10.107.0.2 ── tap0 10.107.0.1 │ uplink 10.108.x.y+2 ── sporeN 10.108.x.y+1 │ outside
 *                                  namespace                                      host
 */

/** How every guest is addressed. */
export const guestNetwork = {
  address: "10.107.0.2/24",
  gateway: "10.107.0.1",
  /** At boot. Clones are told apart by their namespaces, not by MAC addresses. */
  mac: "52:54:00:6b:00:02",
} as const;

export const tapName = "tap0";
export const tapAddress = "10.107.0.1/24";
export const uplinkName = "uplink";
/** All links between namespaces and the host. */
export const linkRange = "10.108.0.0/16";
/** Number of /30s in it. */
export const linkCount = 16_384;
export const hostLinkPrefix = "spore";

export interface Link {
  /** 0 to 16,383; unique on the host. */
  index: number;
  hostInterface: string;
  /** With the prefix length. */
  hostAddress: string;
  namespaceAddress: string;
  /** The host's address without it: where the namespace's default route leads. */
  gateway: string;
}

export function linkOf(index: number): Link {
  const base = index * 4;
  const address = (n: number) => `10.108.${(base + n) >> 8}.${(base + n) & 255}`;
  return {
    index,
    hostInterface: `${hostLinkPrefix}${index}`,
    hostAddress: `${address(1)}/30`,
    namespaceAddress: `${address(2)}/30`,
    gateway: address(1),
  };
}

/** The lowest links that no interface of the host has, as many as asked for if there are. */
export function freeLinks(interfaces: Iterable<string>, count: number): Link[] {
  const taken = new Set(interfaces);
  const links: Link[] = [];
  for (let index = 0; index < linkCount && links.length < count; index++) {
    if (!taken.has(`${hostLinkPrefix}${index}`)) links.push(linkOf(index));
  }
  return links;
}

/** `spore-OWNER-INDEX`: whose a namespace is, and which link it has. */
export function namespaceName(owner: string, index: number): string {
  return `spore-${owner}-${index}`;
}

export function parseNamespaceName(name: string): { owner: string; index: number } | undefined {
  const match = /^spore-([0-9a-f]{8})-(\d{1,5})$/.exec(name);
  if (match?.[1] === undefined || Number(match[2]) >= linkCount) return undefined;
  return { owner: match[1], index: Number(match[2]) };
}
