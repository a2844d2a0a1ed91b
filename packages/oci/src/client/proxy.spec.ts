import { once } from "node:events";
import { createServer, type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { describe, expect, it } from "vitest";
import { blobOf, makeCertificate, startTestRegistry, whyNoCertificate } from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";
import { proxyFor, proxyFromEnvironment } from "./proxy.ts";

describe("proxyFor", () => {
  const rules = { http: "http://one:1", https: "http://two:2" };
  const through = (url: string, no?: string) =>
    proxyFor(new URL(url), { ...rules, ...(no === undefined ? {} : { no }) });

  it("goes by the scheme of the address", () => {
    expect(through("http://registry.example/")).toBe("http://one:1");
    expect(through("https://registry.example/")).toBe("http://two:2");
    expect(proxyFor(new URL("https://registry.example/"), {})).toBeUndefined();
  });

  it.each([
    ["registry.example", "registry.example", true],
    ["registry.example", "example", true],
    ["registry.example", ".example", true],
    ["registry.example", "*.example", true],
    ["registry.example", "Registry.EXAMPLE", true],
    ["registry.example", "other.example, registry.example", true],
    ["registry.example", "a b registry.example", true],
    ["registry.example", "*", true],
    ["registry.example", "gistry.example", false],
    ["registry.example", "registry.example.com", false],
    ["registry.example", "registry.example:443", true],
    ["registry.example", "registry.example:5000", false],
    ["registry.example:5000", "registry.example:5000", true],
    ["10.0.0.1:5000", "10.0.0.1", true],
    ["10.0.0.1:5000", "0.0.1", false],
    ["[fe80::1]:5000", "fe80::1", true],
    ["[fe80::1]:5000", "[fe80::1]:5000", true],
    ["127.0.0.1:5000", "", true],
    ["localhost:5000", "", true],
    ["[::1]:5000", "", true],
    ["registry.example", "", false],
  ])("asks %s without a proxy when %j is listed: %j", (host, no, straight) => {
    expect(through(`https://${host}/`, no) === undefined).toBe(straight);
  });

  it("reads the usual variables", () => {
    expect(proxyFromEnvironment({ HTTPS_PROXY: "a", http_proxy: "b", NO_PROXY: "c" })).toEqual({
      https: "a",
      http: "b",
      no: "c",
    });
  });
});

/** A proxy that notes what it is asked for. */
async function startProxy() {
  const asked: { method: string | undefined; url: string | undefined; authorization: string | undefined }[] =
    [];
  const note = ({ method, url, headers }: IncomingMessage) =>
    asked.push({ method, url, authorization: headers["proxy-authorization"] });
  const server = createServer((incoming, response) => {
    note(incoming);
    const { "proxy-authorization": _, ...headers } = incoming.headers;
    const outgoing = request(incoming.url ?? "", { method: incoming.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(outgoing);
  });
  server.on("connect", (incoming, socket) => {
    note(incoming);
    const [host, port] = (incoming.url ?? "").split(":");
    const upstream = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      upstream.pipe(socket).pipe(upstream);
    });
    for (const end of [upstream, socket]) end.on("error", () => undefined);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    [Symbol.asyncDispose]: close,
  };
}

/** The same registry by an address that Linux takes for this host, but that proxies are used for. */
function notLoopback({ address }: { address: string }): string {
  return address.replace("127.0.0.1", "0.0.0.0");
}

describe("a client behind a proxy", () => {
  it("sends plain HTTP through it, and its password to nobody else", async () => {
    await using registry = await startTestRegistry();
    await using proxy = await startProxy();
    const blob = registry.put("hello", Buffer.from("hello"));
    await using client = createRegistryClient({
      proxy: { http: `http://me:secret@${proxy.address}` },
      plainHttp: true,
    });
    expect(blobOf(await client.repository(notLoopback(registry), "hello").readBlob(blob))).toEqual(blob);
    expect(proxy.asked).toEqual([
      {
        method: "GET",
        url: `http://${notLoopback(registry)}/v2/hello/blobs/${blob.digest}`,
        authorization: `Basic ${Buffer.from("me:secret").toString("base64")}`,
      },
    ]);
    expect(registry.requests[0]?.headers["proxy-authorization"]).toBeUndefined();
  });

  it("reaches HTTPS through a tunnel", async (ctx) => {
    const reason = whyNoCertificate();
    if (reason !== undefined) return ctx.skip(reason);
    using tls = makeCertificate();
    await using registry = await startTestRegistry({ tls });
    await using proxy = await startProxy();
    const blob = registry.put("hello", Buffer.from("hello"));
    await using client = createRegistryClient({
      proxy: { https: `http://${proxy.address}` },
      caFile: tls.certFile,
    });
    expect(blobOf(await client.repository(notLoopback(registry), "hello").readBlob(blob))).toEqual(blob);
    expect(proxy.asked.map(({ method, url }) => [method, url])).toEqual([["CONNECT", notLoopback(registry)]]);
  });

  it("goes around it where that is said", async () => {
    await using registry = await startTestRegistry();
    await using proxy = await startProxy();
    const blob = registry.put("hello", Buffer.from("hello"));
    await using client = createRegistryClient({
      proxy: { http: `http://${proxy.address}`, no: "0.0.0.0" },
      plainHttp: true,
    });
    await client.repository(notLoopback(registry), "hello").readBlob(blob);
    expect(proxy.asked).toEqual([]);
  });

  it.each(["socks5://127.0.0.1:1", "http://", "::"])("says so when the proxy is %s", async (http) => {
    await using client = createRegistryClient({ proxy: { http }, plainHttp: true });
    await expect(client.repository("registry.example", "hello").resolve("v1")).rejects.toMatchObject({
      code: "invalid_argument",
      operation: "use the proxy",
    });
  });

  it("is told what a proxy has against it", async (ctx) => {
    const reason = whyNoCertificate();
    if (reason !== undefined) return ctx.skip(reason);
    const server = createServer().on("connect", (_, socket) => {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    await using client = createRegistryClient({ proxy: { https: `http://127.0.0.1:${port}` } });
    await expect(client.check("registry.example")).rejects.toMatchObject({
      code: "unavailable",
      reason: "the proxy answered 407 when it was asked for registry.example",
    });
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});
