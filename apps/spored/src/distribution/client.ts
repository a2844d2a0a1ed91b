import type { node as api } from "@sporelet/api";
import {
  createRegistryClient,
  dockerCredentials,
  type RegistryClient,
  type RegistryClientOptions,
} from "@sporelet/oci";

/** How a registry is reached, as plain data. */
export type RegistryAccess = Pick<
  api.RegistryOptions,
  "dockerConfig" | "plainHttp" | "caFile" | "httpProxy" | "httpsProxy" | "noProxy"
>;

/** A client that uses the caller's credentials and proxies. The caller disposes of it. */
export function registryClient(
  access: RegistryAccess | undefined,
  onRetry?: (why: string) => void,
  overrides: Partial<RegistryClientOptions> = {},
): RegistryClient {
  const { dockerConfig, plainHttp = false, caFile, httpProxy, httpsProxy, noProxy } = access ?? {};
  return createRegistryClient({
    credentials: dockerCredentials(dockerConfig ? { directory: dockerConfig } : {}),
    plainHttp,
    ...(caFile && { caFile }),
    proxy: {
      ...(httpProxy && { http: httpProxy }),
      ...(httpsProxy && { https: httpsProxy }),
      ...(noProxy && { no: noProxy }),
    },
    ...(onRetry && { onRetry }),
    chunkBytes: chunkBytes(),
    ...overrides,
  });
}

/** SPORELET_CHUNK_BYTES: what one request of a push carries at most, for proxies that limit that. */
function chunkBytes(): number | undefined {
  const bytes = Number(process.env.SPORELET_CHUNK_BYTES);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** The same without what a message has besides. */
export function plainAccess(access: RegistryAccess | undefined): RegistryAccess {
  const { dockerConfig = "", plainHttp = false, caFile = "" } = access ?? {};
  const { httpProxy = "", httpsProxy = "", noProxy = "" } = access ?? {};
  return { dockerConfig, plainHttp, caFile, httpProxy, httpsProxy, noProxy };
}
