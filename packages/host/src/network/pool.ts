import { access } from "node:fs/promises";
import { SporeletError } from "@sporelet/errors";
import { createSupply } from "../supply.ts";
import { loadSyscalls } from "../syscalls.ts";
import { parseNamespaceName, tapName } from "./addresses.ts";
import { nameServers } from "./dns.ts";
import { hostNetwork } from "./host-rules.ts";
import { createNamespaces, namespacesOf, netnsDirectory, removeNamespaces } from "./namespaces.ts";

/** A clone's own network: a namespace with a tap device whose guest reaches the outside by NAT. */
export interface CloneNetwork {
  /** `spore-OWNER-N`. */
  name: string;
  /** Path of the namespace: /run/netns/NAME. */
  netns: string;
  tap: "tap0";
  /** Name servers for the guest: the host's; may be none. */
  dns: string[];
}

export interface NetworkPoolOptions {
  /** Eight hex digits that tell this pool's namespaces from those of others, see `ownerOf`. */
  owner: string;
  /** Networks to keep ready. Default: 4. 0 makes each when it is asked for. */
  spare?: number;
  /** Path of the namespace to link to instead of the process's own: for tests. */
  hostNetns?: string;
  /** Told of networks that could not be removed when nobody waited for that. The next `sweep` tries again. */
  onError?(error: unknown): void;
}

/** Networks for clones, some of them always made ahead. */
export interface NetworkPool {
  /**
   * A network that nobody else has: at once when one is ready, otherwise in some 20 ms.
   *
   * @throws SporeletError `unsupported` when a program is missing, `permission_denied`, `resource_exhausted`.
   */
  take(signal?: AbortSignal): Promise<CloneNetwork>;
  /** Removes a network. Processes in it lose their link to the outside. */
  release(network: Pick<CloneNetwork, "name">): Promise<void>;
  /** A network that this owner made before a restart; undefined when it is gone. */
  adopt(name: string): Promise<CloneNetwork | undefined>;
  /** Removes this owner's networks that are neither in `keep`, nor taken or adopted, nor ready. */
  sweep(keep: Iterable<string>): Promise<string[]>;
  /** Resolves when as many are ready as are to be kept. */
  filled(): Promise<void>;
  /** Removes the networks that are ready. Those that were taken stay. */
  close(): Promise<void>;
}

/** Whether this process may make network namespaces and tap devices. */
export function canUseNetns(): boolean {
  return process.getuid?.() === 0;
}

export function createNetworkPool(options: NetworkPoolOptions): NetworkPool {
  const { owner, spare = 4, hostNetns, onError } = options;
  if (!/^[0-9a-f]{8}$/.test(owner)) throw new TypeError(`not an owner of networks: ${owner}`);
  loadSyscalls(); // Not in the middle of the first resume.
  const host = hostNetwork(hostNetns);
  const supply = createSupply(
    {
      make: (count) => createNamespaces(host, owner, count),
      remove: (names) => removeNamespaces(host, names),
    },
    { spare, ...(onError && { onError }) },
  );
  /** Handed out. */
  const used = new Set<string>();
  if (spare > 0) void supply.fill();

  const handOut = async (name: string): Promise<CloneNetwork> => {
    used.add(name);
    return { name, netns: `${netnsDirectory}/${name}`, tap: tapName, dns: await nameServers() };
  };

  return {
    async take(signal) {
      try {
        for (;;) {
          const name = await supply.take(signal);
          // Somebody may have removed one that lay ready; what is left of it goes as well.
          if (await exists(`${netnsDirectory}/${name}`)) return await handOut(name);
          await removeNamespaces(host, [name]);
        }
      } catch (error) {
        throw SporeletError.from(error, { operation: "make a network for a clone" });
      }
    },

    async release({ name }) {
      used.delete(name);
      await removeNamespaces(host, [name]);
    },

    async adopt(name) {
      if (parseNamespaceName(name)?.owner !== owner) return undefined;
      return (await namespacesOf(owner)).includes(name) ? handOut(name) : undefined;
    },

    async sweep(keep) {
      await supply.settled(); // Those that are being made look like leftovers.
      const kept = new Set([...keep, ...used, ...supply.ready()]);
      const leftovers = (await namespacesOf(owner)).filter((name) => !kept.has(name));
      await removeNamespaces(host, leftovers);
      return leftovers;
    },

    filled: () => supply.fill(),
    close: () => supply.close(poolClosed()),
  };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function poolClosed(): SporeletError {
  return new SporeletError({
    code: "failed_precondition",
    operation: "make a network for a clone",
    reason: "the networks are being removed",
  });
}
