import { SporeletError } from "@sporelet/errors";
import type { Dispatchers } from "../client/dispatchers.ts";
import { allowsPlainHttp } from "../client/endpoint.ts";
import type { ClientSettings } from "../client/options.ts";
import type { OperationContext } from "../client/retry.ts";
import type { Target } from "../client/transport.ts";
import type { Credential, CredentialSource } from "../credentials/credential.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { mergeScopes } from "./scopes.ts";
import { basic, fetchToken, type Token } from "./token.ts";

/** Proves to registries who is asking. */
export interface Authorizer {
  /** The Authorization header for a request, undefined where the registry has not asked for one. */
  authorization(
    target: Target,
    scopes: readonly string[],
    context: OperationContext,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined>;
  /**
   * Learns from a 401.
   *
   * @param used the Authorization that the refused request had
   * @returns whether asking again has a chance
   */
  challenged(
    target: Target,
    scopes: readonly string[],
    header: string | undefined,
    used: string | undefined,
  ): Promise<boolean>;
}

interface CachedToken {
  promise: Promise<Token>;
  /** Once it is there. */
  token: Token | undefined;
}

/** What is known of one registry. */
interface Registry {
  /** Looked up once. */
  credential: Promise<Credential | undefined> | undefined;
  challenge: Challenge | undefined;
  /** What the registry itself asked for, by the scopes that were wanted. */
  extraScopes: Map<string, string[]>;
  /** By scopes. Whoever needs one that is under way waits for it. */
  tokens: Map<string, CachedToken>;
}

/**
 * Answers Basic and Bearer challenges. Tokens are kept by registry and scope until they expire, and requests
 * that need the same one at the same time share one request for it.
 */
export function createAuthorizer(options: {
  credentials: CredentialSource | undefined;
  dispatchers: Dispatchers;
  settings: ClientSettings;
}): Authorizer {
  const registries = new Map<string, Registry>();

  const registryOf = (target: Target): Registry => {
    let registry = registries.get(target.registry);
    if (registry === undefined) {
      registry = { credential: undefined, challenge: undefined, extraScopes: new Map(), tokens: new Map() };
      registries.set(target.registry, registry);
    }
    return registry;
  };

  const credentialOf = (target: Target): Promise<Credential | undefined> => {
    const registry = registryOf(target);
    registry.credential ??= (options.credentials?.get(target.registry) ?? Promise.resolve(undefined)).catch(
      (error) => {
        // A helper that failed once (a locked keychain) may be asked again.
        registry.credential = undefined;
        throw error;
      },
    );
    return registry.credential;
  };

  const tokenFor = (target: Target, challenge: Challenge, scopes: readonly string[]): Promise<Token> => {
    const registry = registryOf(target);
    const key = keyOf(scopes);
    const known = registry.tokens.get(key);
    const expired = known?.token !== undefined && known.token.validUntilMs <= performance.now();
    if (known !== undefined && !expired) return known.promise;
    const fetched = async (): Promise<Token> => {
      const credential = await credentialOf(target);
      const realm = realmOf(challenge, target, options.settings);
      const wanted = mergeScopes([...scopes, ...(registry.extraScopes.get(key) ?? [])]);
      const request = { realm, service: challenge.parameters.service, scopes: wanted, credential };
      const token = await fetchToken({ ...request, registry: target.registry }, options);
      if (token.identityToken !== undefined && credential !== undefined && "identityToken" in credential) {
        registry.credential = Promise.resolve({ identityToken: token.identityToken });
      }
      cached.token = token;
      return token;
    };
    const cached: CachedToken = { promise: fetched(), token: undefined };
    registry.tokens.set(key, cached);
    cached.promise.catch(() => {
      if (registry.tokens.get(key) === cached) registry.tokens.delete(key);
    });
    return cached.promise;
  };

  return {
    async authorization(target, scopes, context, signal) {
      const registry = registryOf(target);
      const { challenge } = registry;
      if (challenge === undefined) return undefined;
      const header = (async () => {
        const credential = await credentialOf(target);
        if (challenge.scheme === "basic") {
          return credential !== undefined && "username" in credential ? basic(credential) : undefined;
        }
        if (credential !== undefined && "registryToken" in credential)
          return `Bearer ${credential.registryToken}`;
        const token = await tokenFor(target, challenge, scopes);
        return `Bearer ${token.value}`;
      })();
      return untilAborted(header, signal, context);
    },

    async challenged(target, scopes, header, used) {
      const registry = registryOf(target);
      const challenge = chooseFrom(header);
      if (challenge === undefined) return false;
      registry.challenge = challenge;
      const credential = await credentialOf(target);
      if (challenge.scheme === "basic") {
        // With no name to give, or one that was refused, there is nothing else to try.
        return credential !== undefined && "username" in credential && used !== basic(credential);
      }
      if (credential !== undefined && "registryToken" in credential) return used === undefined;
      const { scope } = challenge.parameters;
      // GHCR names a repository that does not exist where nothing was asked for (oras-project/oras#1128).
      if (scope !== undefined && scopes.length > 0) registry.extraScopes.set(keyOf(scopes), [scope]);
      // Only the token that was refused is given up: another request may have fetched a new one meanwhile.
      forget(registry, scopes, used);
      return true;
    },
  };
}

function keyOf(scopes: readonly string[]): string {
  return mergeScopes(scopes).join(" ");
}

/** Gives up the token that a request used, unless there is a newer one. */
function forget(registry: Registry, scopes: readonly string[], used: string | undefined): void {
  const key = keyOf(scopes);
  const token = registry.tokens.get(key)?.token;
  if (token !== undefined && used === `Bearer ${token.value}`) registry.tokens.delete(key);
}

/** Bearer before Basic, as its tokens say less about who is asking. */
function chooseFrom(header: string | undefined): Challenge | undefined {
  const challenges = parseChallenges(header ?? "");
  const bearer = challenges.find(
    ({ scheme, parameters }) => scheme === "bearer" && parameters.realm !== undefined,
  );
  return bearer ?? challenges.find(({ scheme }) => scheme === "basic");
}

/** Where tokens come from. A password goes there, so it has to be as safe as the registry's own address. */
function realmOf(challenge: Challenge, target: Target, settings: ClientSettings): URL {
  const text = challenge.parameters.realm ?? "";
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plainIsFine =
    target.endpoint.protocol === "http:" && allowsPlainHttp(url?.hostname ?? "", settings.plainHttp);
  if (url?.protocol === "https:" || (url?.protocol === "http:" && plainIsFine)) return url;
  throw new SporeletError({
    code: "permission_denied",
    operation: "get a token for",
    subject: target.registry,
    reason: `the registry names ${JSON.stringify(text)} as the place to log in, which is not HTTPS`,
  });
}

/** The same result, or the abort, whichever comes first. The work itself goes on for others. */
async function untilAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  context: OperationContext,
): Promise<T> {
  if (signal === undefined) return work;
  if (signal.aborted) throw SporeletError.from(signal.reason, context);
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(SporeletError.from(signal.reason, context));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    work.catch(() => undefined);
  }
}
