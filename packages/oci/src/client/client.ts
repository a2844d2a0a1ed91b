import { createAuthorizer } from "../auth/authorizer.ts";
import type { Content, Descriptor } from "../descriptor.ts";
import type { Digest } from "../digest.ts";
import { type PushOptions, pushBlob } from "../upload/push.ts";
import type { BlobSource } from "../upload/session.ts";
import { hasBlob, mountBlob } from "./blobs.ts";
import type { RepositoryContext } from "./call.ts";
import { createDispatchers } from "./dispatchers.ts";
import { endpointOf } from "./endpoint.ts";
import { readManifest, resolveManifest } from "./manifests.ts";
import { type RegistryClientOptions, settingsOf } from "./options.ts";
import { readBlob, type StreamOptions, streamBlob } from "./read.ts";
import { listReferrers, pushWithSubject } from "./referrers.ts";
import { createAttempts } from "./retry.ts";
import { createTransport } from "./transport.ts";

/**
 * Talks to any number of registries (distribution-spec 1.1). Connections, tokens and what was learnt of a
 * registry are shared by all that goes through one client, so a process wants one for each set of options.
 */
export interface RegistryClient extends AsyncDisposable {
  /**
   * Asks whether a registry lets these credentials in.
   *
   * @param registry `host[:port]`, as in references
   * @throws SporeletError `permission_denied`, `unavailable`
   */
  check(registry: string, signal?: AbortSignal): Promise<void>;
  /** @param registry `host[:port]`, as in references */
  repository(registry: string, repository: string): Repository;
}

/**
 * A repository in a registry. Everything is tried again where that can help, and throws SporeletError:
 * `not_found`, `permission_denied` (with a hint how to log in), `unavailable` (after the last attempt),
 * `corrupt` (what arrived is not what was asked for), `cancelled`.
 */
export interface Repository {
  /** `host/repository`. */
  readonly name: string;
  /** False once the registry has answered a range request with the whole blob; undefined before the first. */
  readonly servesRanges: boolean | undefined;
  /** What a tag or digest names, without its content. */
  resolve(tagOrDigest: string, signal?: AbortSignal): Promise<Descriptor>;
  /** A manifest or index, verified. */
  manifest(
    tagOrDigest: string,
    options?: {
      signal?: AbortSignal | undefined;
      /** Larger ones are `corrupt`. Default: 4 MiB. */
      maxBytes?: number | undefined;
    },
  ): Promise<Content>;
  hasBlob(digest: Digest, signal?: AbortSignal): Promise<boolean>;
  /** A small blob as a whole, verified. */
  readBlob(
    descriptor: Descriptor,
    options?: {
      signal?: AbortSignal | undefined;
      /** Larger ones are `corrupt`, before anything is allocated. Default: 64 MiB. */
      maxBytes?: number | undefined;
    },
  ): Promise<Buffer>;
  /**
   * The bytes of a blob or of a part of it, with reconnects at the byte where a connection dropped. NOT
   * verified: the caller knows the digest of the whole, or of parts. Ending the loop early ends the transfer.
   */
  streamBlob(descriptor: Descriptor, options?: StreamOptions): AsyncIterable<Buffer>;
  /**
   * Makes a blob of another repository of this registry appear here too.
   *
   * @param fromRepository its path in the registry
   * @returns false where it has to be sent instead
   */
  mountBlob(digest: Digest, fromRepository: string, signal?: AbortSignal): Promise<boolean>;
  /** Sends a blob unless the registry has it. */
  pushBlob(source: BlobSource, options?: PushOptions): Promise<"exists" | "pushed">;
  /**
   * Sends a manifest or index. The blobs and manifests that it names have to be there. What its `subject` is, is
   * noted in a tag `sha256-…` where the registry does not keep track of that itself.
   */
  pushManifest(
    bytes: Buffer,
    mediaType: string,
    tagOrDigest: string,
    signal?: AbortSignal,
  ): Promise<Descriptor>;
  /** Manifests whose `subject` is this one. */
  referrers(digest: Digest, signal?: AbortSignal): Promise<Descriptor[]>;
}

/**
 * A client for OCI registries.
 *
 * @throws SporeletError when `caFile` cannot be read
 */
export function createRegistryClient(options: RegistryClientOptions = {}): RegistryClient {
  const settings = settingsOf(options);
  const dispatchers = createDispatchers(options);
  const authorizer = createAuthorizer({ credentials: options.credentials, dispatchers, settings });
  const transport = createTransport({ dispatchers, authorizer, settings });
  const repositories = new Map<string, RepositoryContext>();
  return {
    async check(registry, signal) {
      const endpoint = endpointOf(registry, settings.plainHttp);
      const context = { operation: "log in to", subject: registry };
      const attempts = createAttempts({
        policy: settings.retries,
        context,
        signal,
        onRetry: settings.onRetry,
      });
      const target = { registry, endpoint };
      const request = {
        method: "GET",
        url: endpoint,
        target,
        scopes: [],
        expect: [200],
        context,
        signal,
      } as const;
      await attempts.run(async () => (await transport.send(request)).discard());
    },
    repository(registry, path) {
      const name = `${registry}/${path}`;
      let context = repositories.get(name);
      if (context === undefined) {
        const target = { registry, endpoint: endpointOf(registry, settings.plainHttp) };
        context = {
          ...{ transport, settings, target, path, name },
          ranges: { served: undefined },
          chunks: { taken: true, limitBytes: Number.POSITIVE_INFINITY },
          opened: new Map(),
        };
        repositories.set(name, context);
      }
      return repositoryOf(context);
    },
    [Symbol.asyncDispose]: () => dispatchers[Symbol.asyncDispose](),
  };
}

function repositoryOf(context: RepositoryContext): Repository {
  return {
    name: context.name,
    get servesRanges() {
      return context.ranges.served;
    },
    resolve: (tagOrDigest, signal) => resolveManifest(context, tagOrDigest, signal),
    manifest: (tagOrDigest, options = {}) => readManifest(context, tagOrDigest, options),
    hasBlob: (digest, signal) => hasBlob(context, digest, signal),
    readBlob: (descriptor, options = {}) => readBlob(context, descriptor, options),
    streamBlob: (descriptor, options = {}) => streamBlob(context, descriptor, options),
    mountBlob: (digest, fromRepository, signal) => mountBlob(context, digest, fromRepository, signal),
    pushBlob: (source, options = {}) => pushBlob(context, source, options),
    pushManifest: (bytes, mediaType, tagOrDigest, signal) =>
      pushWithSubject(context, bytes, mediaType, tagOrDigest, signal),
    referrers: (digest, signal) => listReferrers(context, digest, signal),
  };
}
