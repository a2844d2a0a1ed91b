import type { Answer } from "./exchange.ts";
import type { ClientSettings } from "./options.ts";
import { type Attempts, createAttempts, type OperationContext } from "./retry.ts";
import type { Target, Transport, TransportRequest } from "./transport.ts";

/** What the parts of a repository share. */
export interface RepositoryContext {
  transport: Transport;
  settings: ClientSettings;
  target: Target;
  /** Path in the registry. */
  path: string;
  /** `host/repository`. */
  name: string;
  /** False once the registry has answered a range request with everything. */
  ranges: { served: boolean | undefined };
  /** Whether this registry takes uploads in chunks, and how large they may be, as far as it has been found out. */
  chunks: { taken: boolean; limitBytes: number };
  /** Uploads that a refused mount has begun, by digest: each is used once. */
  opened: Map<string, URL>;
}

/** What a verb fills in itself. */
type Call = Omit<TransportRequest, "target" | "context" | "signal" | "scopes"> & {
  /** In place of the operation's. */
  signal?: AbortSignal | undefined;
};

/** One operation on a repository: its name, its attempts, its caller's signal. */
export interface Operation {
  readonly context: OperationContext;
  readonly attempts: Attempts;
  readonly signal: AbortSignal | undefined;
  /** One attempt. */
  once(call: Call): Promise<Answer>;
  /** As many attempts as the policy allows. */
  send(call: Call): Promise<Answer>;
}

export function operationOn(
  repository: RepositoryContext,
  options: {
    operation: string;
    subject: string;
    scopes: readonly string[];
    signal: AbortSignal | undefined;
  },
): Operation {
  const { transport, settings, target } = repository;
  const { operation, subject, scopes, signal } = options;
  const context = { operation, subject };
  const attempts = createAttempts({ policy: settings.retries, context, signal, onRetry: settings.onRetry });
  const once = (call: Call) =>
    transport.send({ ...call, target, scopes, context, signal: call.signal ?? signal });
  return { context, attempts, signal, once, send: (call) => attempts.run(() => once(call)) };
}

/** An address under the repository: `blobs/…`, `manifests/…`. */
export function addressOf({ target, path }: RepositoryContext, rest: string): URL {
  return new URL(`${path}/${rest}`, target.endpoint);
}

/** The scope that a token needs for this repository (distribution: "Token Scope Documentation"). */
export function pullScope({ path }: RepositoryContext): string {
  return `repository:${path}:pull`;
}

export function pushScope({ path }: RepositoryContext): string {
  return `repository:${path}:pull,push`;
}
