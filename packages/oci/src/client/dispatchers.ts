import { readFileSync } from "node:fs";
import { getCACertificates } from "node:tls";
import { SporeletError } from "@sporelet/errors";
import { Agent, type Dispatcher, ProxyAgent } from "undici";
import type { RegistryClientOptions } from "./options.ts";
import { proxyFor } from "./proxy.ts";

/** Connections to registries: straight, or through the proxy that is meant for an address. */
export interface Dispatchers extends AsyncDisposable {
  for(url: URL): Dispatcher;
}

const connectTimeoutMs = 10_000;

export function createDispatchers(options: Pick<RegistryClientOptions, "caFile" | "proxy">): Dispatchers {
  const ca =
    options.caFile === undefined ? undefined : [...getCACertificates("default"), readCa(options.caFile)];
  const connect = { timeout: connectTimeoutMs, ...(ca === undefined ? {} : { ca }) };
  // HTTP/2 would put all transfers on one connection, and one drop would cut them all.
  const direct = new Agent({ connect, allowH2: false });
  const proxies = new Map<string, ProxyAgent>();
  return {
    for(url) {
      const proxy = proxyFor(url, options.proxy ?? {});
      if (proxy === undefined) return direct;
      let agent = proxies.get(proxy);
      if (agent === undefined) {
        // Without a tunnel for plain HTTP: many proxies allow CONNECT to port 443 alone.
        agent = new ProxyAgent({
          uri: checked(proxy),
          proxyTunnel: false,
          allowH2: false,
          requestTls: connect,
          proxyTls: connect,
        });
        proxies.set(proxy, agent);
      }
      return agent;
    },
    async [Symbol.asyncDispose]() {
      // What is under way belongs to nobody any more.
      await Promise.all([direct, ...proxies.values()].map((agent) => agent.destroy()));
    },
  };
}

function checked(proxy: string): string {
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
  if (URL.canParse(text) && /^https?:/i.test(text)) return text;
  throw new SporeletError({
    code: "invalid_argument",
    operation: "use the proxy",
    subject: proxy.replace(/\/\/[^@/]*@/, "//"),
    reason: "it is not an address of a proxy that speaks HTTP",
    hint: "write http://HOST:PORT",
  });
}

function readCa(path: string): string {
  try {
    const text = readFileSync(path, "utf8");
    if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  } catch (error) {
    throw SporeletError.from(error, { operation: "read the certificates", subject: path });
  }
  throw new SporeletError({
    code: "invalid_argument",
    operation: "read the certificates",
    subject: path,
    reason: "there is no certificate in PEM form in it",
  });
}
