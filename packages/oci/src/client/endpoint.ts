import { SporeletError } from "@sporelet/errors";
import type { PlainHttp } from "./options.ts";

// Docker Hub's name in references is not the host that serves it.
const aliases: Readonly<Record<string, string>> = {
  "docker.io": "registry-1.docker.io",
  "index.docker.io": "registry-1.docker.io",
};

/**
 * The root of a registry's API, by HTTP where that is allowed.
 *
 * @param registry `host[:port]`
 * @param plainHttp see `RegistryClientOptions`
 */
export function endpointOf(registry: string, plainHttp: PlainHttp): URL {
  const url = new URL(`https://${aliases[registry] ?? registry}/v2/`);
  return allowsPlainHttp(url.hostname, plainHttp) ? new URL(`http://${registry}/v2/`) : url;
}

export function allowsPlainHttp(hostname: string, plainHttp: PlainHttp): boolean {
  return plainHttp === true || (plainHttp === false && isLoopback(hostname));
}

/** Whether a host, as URLs have it, is this machine. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

/**
 * Where a redirect or an upload's Location leads to.
 *
 * @param base what was asked; the location may be relative to it
 * @throws SporeletError `unavailable` when it leaves HTTPS, or HTTP is not allowed there
 */
export function follow(
  location: string | undefined,
  base: URL,
  plainHttp: PlainHttp,
  context: { operation: string; subject: string },
): URL {
  const fail = (reason: string): never => {
    throw new SporeletError({ ...context, code: "unavailable", reason });
  };
  if (location === undefined) return fail(`${base.host} answered without a Location`);
  if (!URL.canParse(location, base.href))
    return fail(`${base.host} answered with a Location that is not a URL`);
  const url = new URL(location, base);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    fail(`${base.host} leads to a ${url.protocol} address`);
  if (url.username !== "" || url.password !== "")
    fail(`${base.host} leads to an address with a password in it`);
  // A registry behind a proxy that ends TLS often does not know that it is spoken to by HTTPS
  // (distribution: `X-Forwarded-Proto`, `http.relativeurls`): its own host stays HTTPS.
  if (base.protocol === "https:" && url.protocol === "http:") {
    if (url.hostname !== base.hostname) fail(`${base.host} leads from HTTPS to plain HTTP at ${url.host}`);
    return new URL(`${base.origin}${url.pathname}${url.search}`);
  }
  if (url.protocol === "http:" && !allowsPlainHttp(url.hostname, plainHttp)) {
    fail(`${base.host} leads to plain HTTP at ${url.host}`);
  }
  return url;
}
