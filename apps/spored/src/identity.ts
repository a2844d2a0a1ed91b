import { randomBytes, randomUUID } from "node:crypto";
import { agent, type HelloInit } from "@sporelet/api";

/** What makes one machine differ from all others of the same snapshot. */
export interface Identity {
  hostname: string;
  /** 32 lower-case hexadecimal digits, as /etc/machine-id (machine-id(5)). */
  machineId: string;
  /** A UUID, fresh for every resume. */
  generationId: string;
  /** MAC address of its interface. */
  mac: string;
}

/** How the guest's interface is set up. */
export interface GuestAddress {
  address: string;
  gateway: string;
  dns: string[];
}

/** A new identity of a machine called `name`. */
export function newIdentity(name: string): Identity {
  return {
    hostname: name,
    machineId: randomBytes(16).toString("hex"),
    generationId: randomUUID(),
    mac: newMac(),
  };
}

/** A random unicast MAC address of the locally administered range (IEEE 802, bits 0 and 1 of the first byte). */
function newMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

const helloKinds = {
  boot: agent.HelloKind.BOOT,
  resume: agent.HelloKind.RESUME,
  rehearsal: agent.HelloKind.REHEARSAL,
} as const;

export interface HelloOptions {
  kind: keyof typeof helloKinds;
  identity: Identity;
  guest?: GuestAddress | undefined;
  env: Record<string, string>;
  hookTimeoutMs?: number | undefined;
}

/**
 * The first words to a guest that becomes a machine of its own. Protocol and wall clock are filled in when
 * they are written.
 */
export function identityHello(options: HelloOptions): HelloInit {
  const { identity, guest } = options;
  return {
    kind: helloKinds[options.kind],
    entropy: randomBytes(256),
    hostname: identity.hostname,
    machineId: identity.machineId,
    generationId: identity.generationId,
    hookTimeoutMs: options.hookTimeoutMs ?? 0,
    env: options.env,
    ...(guest && { network: { mac: identity.mac, ...guest } }),
  };
}

/**
 * The first words to a guest that stayed itself while the host was away or it was paused.
 * @param generationId the one that the guest has: it proves that this Hello is no part of an older connection
 * @param env given again, because the agent forgets it before a freeze; empty: the agent keeps what it has
 */
export function reconnectHello(generationId: string, env: Record<string, string>): HelloInit {
  return { kind: agent.HelloKind.RECONNECT, generationId, env };
}
