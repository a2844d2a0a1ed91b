import type { node as api } from "@sporelet/api";
import type { StoredSnapshot } from "@sporelet/store";
import type { CallTime } from "./call-time.ts";
import { whyNotResumable } from "./gate.ts";
import { gateHost } from "./gate-host.ts";
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
export async function obtain(
  node: Node,
  { snapshot: reference }: ObtainRequest,
  options: ObtainOptions,
): Promise<Resumable> {
  using held = new DisposableStack();
  const { snapshot, lease } = await node.store.acquire(reference, "run");
  held.use(lease);
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

function resumable(snapshot: StoredSnapshot, held: DisposableStack): Resumable {
  return { snapshot, [Symbol.dispose]: () => held.dispose() };
}
