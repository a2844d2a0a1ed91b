import { isLoopback } from "./endpoint.ts";
import type { ProxyRules } from "./options.ts";

/**
 * The proxy that a request goes through, undefined for none.
 *
 * `no` is a list of hosts, separated by commas or spaces: `example` and `.example` cover their subdomains too,
 * `host:port` that port alone, `*` everything. As curl and Go have it; address ranges are not looked at. As Go has it
 * too, this machine is never reached through a proxy.
 */
export function proxyFor(url: URL, rules: ProxyRules): string | undefined {
  const proxy = url.protocol === "https:" ? rules.https : rules.http;
  if (proxy === undefined || proxy === "" || isLoopback(url.hostname)) return undefined;
  const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
  const entries = (rules.no ?? "").split(/[\s,]+/).filter((entry) => entry !== "");
  return entries.some((entry) => covers(entry.toLowerCase(), url.hostname, port)) ? undefined : proxy;
}

/** The rules that the environment holds, in lower or upper case; `ALL_PROXY` stands in for both. */
export function proxyFromEnvironment(environment: Readonly<Record<string, string | undefined>>): ProxyRules {
  const read = (name: string) => environment[name] ?? environment[name.toUpperCase()];
  return {
    // HTTP_PROXY in capitals can be set by a request's header where programs run as CGI; spored does not.
    http: read("http_proxy") ?? read("all_proxy"),
    https: read("https_proxy") ?? read("all_proxy"),
    no: read("no_proxy"),
  };
}

function covers(entry: string, hostname: string, port: string): boolean {
  if (entry === "*") return true;
  const match = /^(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(entry);
  // An IPv6 address without brackets, which has colons but no port.
  if (match === null) return hostname === `[${entry}]`;
  const [, host = "", onlyPort] = match;
  if (onlyPort !== undefined && onlyPort !== port) return false;
  const name = host.replace(/^\*?\./, "");
  return hostname === name || (!/^[\d.]+$/.test(name) && hostname.endsWith(`.${name}`));
}
