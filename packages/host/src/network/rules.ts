/** Texts for `ip -batch` and `nft -f`: pure, so that they can be read and tested as such. */
import { type Link, linkRange, tapAddress, tapName, uplinkName } from "./addresses.ts";

/** On the host: a namespace and a link into it. The namespace first and last: it outlives its link. */
export function createOnHost(name: string, link: Link): string[] {
  return [
    `netns add ${name}`,
    `link add ${link.hostInterface} type veth peer name ${uplinkName} netns ${name}`,
    `addr add ${link.hostAddress} dev ${link.hostInterface}`,
    `link set ${link.hostInterface} up`,
  ];
}

/**
 * How often a guest is asked for its hardware address, one second apart, before connections to it fail: as long as a
 * published port waits for it (`connectTimeoutMs` of publish.ts). With the kernel's 3 those to a paused guest fail.
 */
const arpRequests = 30;

/** In the namespace. */
export function createInNamespace(link: Link): string[] {
  return [
    "link set lo up",
    `tuntap add ${tapName} mode tap`,
    `addr add ${tapAddress} dev ${tapName}`,
    `link set ${tapName} up`,
    `ntable change name arp_cache dev ${tapName} mcast_probes ${arpRequests}`,
    `addr add ${link.namespaceAddress} dev ${uplinkName}`,
    `link set ${uplinkName} up`,
    `route add default via ${link.gateway}`,
  ];
}

/**
 * In the namespace: the guest goes out under the namespace's address, and nothing comes in from the link
 * but answers. What enters the guest by a published port begins in the namespace itself.
 */
export const namespaceRules = `
table ip sporelet {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${uplinkName}" masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${uplinkName}" ct state != { established, related } drop
  }
}
`;

/** The comment on all that is ours among rules of others. */
const ruleComment = "sporelet";

/**
 * On the host. The table's comment remembers whether forwarding was on before (`forwardingWas`), so that
 * whoever removes the table, even after a crash of its maker, can put that back.
 */
export function hostTable(forwardingWas: "0" | "1"): string {
  return `
table ip sporelet {
  comment "ip_forward=${forwardingWas}"
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${linkRange} ip daddr != ${linkRange} masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip saddr ${linkRange} ip daddr ${linkRange} drop
  }
}
`;
}

/** A rule as `nft -j list` shows it. */
export interface ListedRule {
  rule?: { handle: number; comment?: string };
  chain?: { name: string; policy?: string; hook?: string };
}

/**
 * What to add to another's forward chain that drops by default, as Docker and ufw set it up: a packet has
 * to pass every chain of the hook, so that accepting it in a chain of our own would not save it. Nothing when
 * the chain lets packets through or has the rules already.
 */
export function forwardRules(chain: ListedRule[], table: string, name: string): string {
  const drops = chain.some((entry) => entry.chain?.policy === "drop");
  const there = chain.some((entry) => entry.rule?.comment === ruleComment);
  if (!drops || there) return "";
  const insert = `insert rule ip ${table} ${name}`;
  return [
    `${insert} ip daddr ${linkRange} ct state established,related accept comment "${ruleComment}"`,
    `${insert} ip saddr ${linkRange} accept comment "${ruleComment}"`,
    "",
  ].join("\n");
}

/** Takes them away again. */
export function removeForwardRules(chain: ListedRule[], table: string, name: string): string {
  return chain
    .flatMap(({ rule }) => (rule?.comment === ruleComment ? [rule.handle] : []))
    .map((handle) => `delete rule ip ${table} ${name} handle ${handle}\n`)
    .join("");
}
