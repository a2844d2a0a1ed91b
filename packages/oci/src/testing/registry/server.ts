import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Descriptor } from "../../descriptor.ts";
import type { Digest } from "../../digest.ts";
import type { TestCertificate } from "../certificate.ts";
import { createAuth, type TestAuth } from "./auth.ts";
import { content, getBlob } from "./blobs.ts";
import { createFaults, type Fault, type Faults, type RecordedRequest } from "./faults.ts";
import { handleManifest, referrers } from "./manifests.ts";
import { type Exchange, errorReply, exchangeOf, type Reply, send } from "./reply.ts";
import { createState, storeBlob } from "./state.ts";
import { beginUpload, type ChunkQuirk, continueUpload } from "./uploads.ts";

export interface TestRegistryOptions {
  faults?: readonly Fault[];
  /** Default: everybody may do everything. */
  auth?: TestAuth;
  /** HTTPS with this certificate. Default: plain HTTP. */
  tls?: TestCertificate;
  /** Uploads have relative Locations. Default: false. */
  relativeLocations?: boolean;
  /**
   * Uploads can be asked for at any Location that they ever had, as zot has it. Default: false, only the newest is
   * valid, as distribution has it.
   */
  stableLocations?: boolean;
  /** OCI-Chunk-Min-Length. Default: none. */
  minChunkBytes?: number;
  /** Default: chunks as the specification has them. */
  chunks?: ChunkQuirk;
  /** Whether blobs can be mounted. Default: true. */
  mounts?: boolean;
  /** Whether it keeps track of what refers to what. Default: true. */
  referrers?: boolean;
}

/** A registry in this process, with whatever is to go wrong in it. */
export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  /** `127.0.0.1:PORT` of the origin that blobs are redirected to. */
  readonly storageAddress: string;
  readonly faults: Faults;
  /** All requests, in the order in which they came. */
  readonly requests: readonly RecordedRequest[];
  /** Content by digest; what is set here is served as that digest, whatever it is. */
  readonly blobs: Map<Digest, Buffer>;
  /** By `repository:tag` and `repository@digest`. */
  readonly manifests: Map<string, { mediaType: string; bytes: Buffer }>;
  /** Stores a blob without a request. */
  put(repository: string, bytes: Buffer, mediaType?: string): Descriptor;
  /** Requests that have all these words, see `Fault.on`. */
  asked(words: string): RecordedRequest[];
  /** Bytes of a blob that were sent to clients, over all requests. */
  sentBytes(digest: Digest): number;
  /** Makes all uploads that are under way unknown. */
  expireUploads(): void;
  /** Makes the addresses that blobs were redirected to worthless; new ones are good. */
  expireRedirects(): void;
  /** Makes all tokens worthless. */
  revokeTokens(): void;
  /** Cuts all connections and listens no more; what it holds stays. */
  stop(): Promise<void>;
}

/** Starts a registry on free loopback ports. */
export async function startTestRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const state = createState();
  const faults = createFaults(options.faults);
  const requests: RecordedRequest[] = [];
  let redirectEpoch = 0;
  const auth = createAuth(options.auth, () => `${scheme}://${address}`);

  const serve =
    (
      handle: (exchange: Exchange) => Reply | Promise<Reply>,
      origin: "registry" | "storage",
    ): RequestListener =>
    (incoming, response) => {
      void answer(incoming, response, origin, handle);
    };

  const answer = async (
    incoming: IncomingMessage,
    response: ServerResponse,
    origin: "registry" | "storage",
    handle: (exchange: Exchange) => Reply | Promise<Reply>,
  ): Promise<void> => {
    const path = incoming.url ?? "/";
    const request: RecordedRequest = {
      origin: path.startsWith("/token") ? "token" : origin,
      method: incoming.method ?? "",
      path,
      headers: incoming.headers as Record<string, string>,
      receivedBytes: 0,
      status: undefined,
      sentBytes: 0,
    };
    requests.push(request);
    const fault = faults.take(request);
    const exchange = exchangeOf(incoming, request, fault);
    try {
      const reply = fault.status === undefined ? await handle(exchange) : refusal(fault);
      await send(response, reply, exchange);
    } catch {
      // The client went away, or was cut off: there is nobody to tell.
      response.destroy();
    }
  };

  const registry = (exchange: Exchange): Reply | Promise<Reply> => {
    const { pathname } = exchange.url;
    if (pathname === "/token") return auth.token(exchange);
    const [, repository, kind, rest = ""] =
      /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests|referrers)\/(.*)$/.exec(pathname) ?? [];
    const refused = auth.check(exchange, repository);
    if (refused !== undefined) return refused;
    if (pathname === "/v2/") return { status: 200 };
    if (repository === undefined)
      return errorReply(404, "NAME_UNKNOWN", "repository name not known to registry");
    const { referrers: noted = true } = options;
    if (kind === "manifests") return handleManifest(state, repository, rest, exchange, noted);
    if (kind === "referrers")
      return noted ? referrers(state, repository, rest) : errorReply(404, "UNSUPPORTED", "unknown endpoint");
    if (kind === "blobs") return redirected(exchange, rest) ?? getBlob(state, repository, rest, exchange);
    const uploads = {
      locationBase: options.relativeLocations ? "" : `${scheme}://${address}`,
      minChunkBytes: options.minChunkBytes,
      mounts: options.mounts ?? true,
      chunks: options.chunks,
      stableLocations: options.stableLocations ?? false,
    };
    if (rest === "") return beginUpload(state, repository, exchange, uploads);
    return continueUpload(state, repository, rest, exchange, uploads);
  };

  const redirected = ({ fault }: Exchange, digest: string): Reply | undefined => {
    if (fault.redirect === undefined || fault.redirect === false) return undefined;
    const storage = `http://${storageAddress}/${digest}?signature=${redirectEpoch}`;
    return { status: 307, headers: { location: fault.redirect === true ? storage : fault.redirect } };
  };

  /** An object store: it takes signed addresses, and nobody's name. */
  const storage = (exchange: Exchange): Reply => {
    // Signed for GET alone, as object stores have it.
    if (exchange.request.method !== "GET") return { status: 403 };
    if (exchange.url.searchParams.get("signature") !== String(redirectEpoch)) {
      return { status: 403, body: Buffer.from("<Error><Code>AccessDenied</Code></Error>") };
    }
    const bytes = state.blobs.get(exchange.url.pathname.slice(1) as Digest);
    return bytes === undefined ? { status: 404 } : content(bytes, exchange);
  };

  const scheme = options.tls === undefined ? "http" : "https";
  const listener = serve(registry, "registry");
  const server = options.tls === undefined ? createServer(listener) : createTlsServer(options.tls, listener);
  const storageServer = createServer(serve(storage, "storage"));
  const [address, storageAddress] = await Promise.all([listen(server), listen(storageServer)]);
  const stop = async () => {
    await Promise.all([close(server), close(storageServer)]);
  };

  return {
    address,
    storageAddress,
    faults,
    requests,
    blobs: state.blobs,
    manifests: state.manifests,
    put(repository, bytes, mediaType = "application/octet-stream") {
      return { mediaType, digest: storeBlob(state, repository, bytes), size: bytes.length };
    },
    asked(words) {
      return requests.filter(({ origin, method, path }) =>
        words.split(" ").every((word) => `${origin} ${method} ${path}`.includes(word)),
      );
    },
    sentBytes(digest) {
      const reads = requests.filter(({ method, path }) => method === "GET" && path.includes(digest));
      return reads.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
    },
    expireUploads: () => state.uploads.clear(),
    expireRedirects() {
      redirectEpoch += 1;
    },
    revokeTokens: () => auth.revoke(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function refusal({ status = 500, body }: Fault): Reply {
  return body === undefined
    ? errorReply(status, "FAULT", "as the test wants it")
    : { status, body: Buffer.from(body) };
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
