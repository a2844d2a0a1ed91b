import type { OperationContext } from "../client/retry.ts";
import type { Target } from "../client/transport.ts";

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
    challenge: string | undefined,
    used: string | undefined,
  ): Promise<boolean>;
}

/** Proves nothing. */
export const anonymous: Authorizer = {
  authorization: async () => undefined,
  challenged: async () => false,
};
