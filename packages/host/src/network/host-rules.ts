import { readFileSync, writeFileSync } from "node:fs";
import { runProcess } from "../process.ts";
import { hostLinkPrefix } from "./addresses.ts";
import { inNetns } from "./netns.ts";
import { forwardRules, hostTable, type ListedRule, removeForwardRules } from "./rules.ts";

/** The network that namespaces are linked to: the host's, or in tests a namespace that stands for it. */
export interface HostNetwork {
  /** `ip -batch`. Stops at the first line that fails. */
  ip(lines: string[], options?: { force?: boolean; signal?: AbortSignal | undefined }): Promise<void>;
  /** Names of its interfaces. */
  interfaces(): string[];
  /** Sees to it that packets of the namespaces get out. Cheap to call again. */
  ensureRules(signal?: AbortSignal): Promise<void>;
  /** Takes all of that back once no namespace is linked to it any more. */
  removeRulesIfUnused(): Promise<void>;
}

/** Where iptables-nft, and with it Docker and ufw, keeps the chain that may drop what we forward. */
const foreignTable = "filter";
const foreignChain = "FORWARD";
const forwardingPath = "/proc/sys/net/ipv4/ip_forward";
const commandTimeoutMs = 30_000;

export function hostNetwork(netns: string | undefined): HostNetwork {
  const here = <T>(action: () => T): T => (netns === undefined ? action() : inNetns(netns, action));
  const run = (argv: string[], operation: string, stdin?: string, signal?: AbortSignal, ok?: number[]) =>
    runProcess(argv, {
      operation,
      netns,
      signal,
      ok,
      stdin: stdin === undefined ? undefined : Buffer.from(stdin),
      timeoutMs: commandTimeoutMs,
    });
  const applyRules = async (rules: string, operation: string, signal?: AbortSignal) => {
    if (rules !== "") await run(["nft", "-f", "-"], operation, rules, signal);
  };
  /** What nft says of a table or chain; undefined when there is none. */
  const list = async (what: string[], signal?: AbortSignal) => {
    const { stdout, code } = await run(
      ["nft", ...what],
      "read the firewall rules",
      undefined,
      signal,
      [0, 1],
    );
    return code === 0 ? stdout : undefined;
  };
  // As text: nft 1.0.6 leaves the table's comment out of its JSON.
  const ownTable = (signal?: AbortSignal) => list(["list", "table", "ip", "sporelet"], signal);
  const foreignRules = async (signal?: AbortSignal) => {
    const json = await list(["-j", "list", "chain", "ip", foreignTable, foreignChain], signal);
    return json === undefined ? [] : (JSON.parse(json) as { nftables: ListedRule[] }).nftables;
  };

  return {
    async ip(lines, { force = false, signal } = {}) {
      const argv = ["ip", ...(force ? ["-force"] : []), "-batch", "-"];
      // With -force it goes on after a line that fails, and ends with 1 or 2: lines about things that are gone.
      await run(
        argv,
        "set up the network of clones",
        `${lines.join("\n")}\n`,
        signal,
        force ? [0, 1, 2] : [0],
      );
    },

    interfaces: () =>
      here(() => readFileSync("/proc/thread-self/net/dev", "utf8"))
        .split("\n")
        .flatMap((line) => /^\s*([^\s:]+):/.exec(line)?.[1] ?? []),

    async ensureRules(signal) {
      const operation = "let clones reach the outside";
      if ((await ownTable(signal)) === undefined) {
        const forwarding = here(() => readFileSync(forwardingPath, "utf8")).trim() === "1" ? "1" : "0";
        await applyRules(hostTable(forwarding), operation, signal);
      }
      here(() => {
        if (readFileSync(forwardingPath, "utf8").trim() !== "1") writeFileSync(forwardingPath, "1");
      });
      // Each time: Docker may have come after us.
      await applyRules(
        forwardRules(await foreignRules(signal), foreignTable, foreignChain),
        operation,
        signal,
      );
    },

    async removeRulesIfUnused() {
      if (this.interfaces().some((name) => new RegExp(`^${hostLinkPrefix}\\d+$`).test(name))) return;
      const operation = "remove the network rules of clones";
      await applyRules(removeForwardRules(await foreignRules(), foreignTable, foreignChain), operation);
      const table = await ownTable();
      if (table === undefined) return;
      if (table.includes('comment "ip_forward=0"')) here(() => writeFileSync(forwardingPath, "0"));
      await applyRules("delete table ip sporelet\n", operation);
    },
  };
}
