import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { StoredSnapshot } from "@sporelet/store";
import type { CallTime } from "./call-time.ts";
import { namesRegistry } from "./distribution/names.ts";
import { obtainRemote } from "./distribution/remote.ts";
import { whyNotResumable } from "./gate.ts";
import { gateHost } from "./gate-host.ts";
import { lazyPartsOf } from "./lazy/types.ts";
import type { Node } from "./node.ts";
import { standIn } from "./stand-in.ts";

/** A snapshot that clones can be resumed from here and now. It stays so until this is disposed of. */
export interface Resumable extends Disposable {
  snapshot: StoredSnapshot;
}

/** Which snapshot, and how it is fetched when it is not in the store. */
export type ObtainRequest = Pick<api.RunRequest, "snapshot" | "registry" | "fetch">;

export interface ObtainOptions {
  /** Told what goes on when it takes a while: transfers, steps of a build, notices. */
  onEvent(event: api.RunEvent["event"]): void;
  time: CallTime;
  signal: AbortSignal;
}

/**
 * Makes of a reference something that can be resumed on this host.
 *
 * @throws SporeletError `not_found`; `incompatible` or `unsupported` when this host can neither restore its state
 *   nor boot it; `guest_failed` when it does not boot; `corrupt`
 */
export async function obtain(node: Node, request: ObtainRequest, options: ObtainOptions): Promise<Resumable> {
  using held = new DisposableStack();
  const { snapshot, lease } = await acquire(node, request, options);
  held.use(lease);
  // Its state was asked about before it was begun to be fetched.
  if (lazyPartsOf(snapshot) !== undefined) return resumable(snapshot, held.move());
  const reference = request.snapshot;
  const { config, files } = snapshot;
  const [host] = await Promise.all([
    gateHost(node, { accelerator: config.shape.accelerator, guest: files }),
    node.store.check(snapshot),
  ]);
  const refusal = whyNotResumable(config, host);
  if (refusal === undefined) return resumable(snapshot, held.move());
  const other = await standIn(node, { reference, snapshot, refusal, host }, options);
  held.use(other.lease);
  return resumable(other.snapshot, held.move());
}

/** From the store, or else from the registry that the reference names. */
async function acquire(
  node: Node,
  request: ObtainRequest,
  options: ObtainOptions,
): Promise<{ snapshot: StoredSnapshot; lease: Disposable }> {
  const reference = request.snapshot;
  const remote = namesRegistry(reference);
  // Names of the store have no digest behind them; which snapshot it is, the registry's index says.
  if (remote && reference.includes("@")) return await obtainRemote(node, request, options);
  try {
    return await node.store.acquire(reference, "run");
  } catch (error) {
    if (!remote || !(error instanceof SporeletError) || error.code !== "not_found") throw error;
    return await obtainRemote(node, request, options);
  }
}

function resumable(snapshot: StoredSnapshot, held: DisposableStack): Resumable {
  return { snapshot, [Symbol.dispose]: () => held.dispose() };
}
