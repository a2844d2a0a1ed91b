import { firstContact, helloFrame } from "@sporelet/api";
import type { Slot } from "@sporelet/vmm";
import { identityHello, newIdentity } from "../identity.ts";
import type { PreparedClone } from "../preparation.ts";

/**
 * Has a clone's guest become unique, as it will have to again when its identity is known, and stand still: what it
 * did once it does much sooner the second time. Under software emulation the VMM has to translate most of the code
 * first; everywhere pages are touched for the first time. Its programs do not run meanwhile (see agent.proto).
 *
 * @param clone is prepared; what is returned owns it.
 * @throws SporeletError `incompatible` when its agent does not know of rehearsals. The clone is of no use any more
 */
export async function rehearse(clone: PreparedClone, signal: AbortSignal): Promise<PreparedClone> {
  await using undo = new AsyncDisposableStack();
  undo.use(clone);
  const { network, slot } = clone;
  const hello = identityHello({
    ...{ kind: "rehearsal", identity: newIdentity("slot"), guest: network.guest, env: {} },
  });
  const { machine, channel } = await slot.resume({ firstWords: helloFrame(hello), signal });
  undo.defer(() => machine.stop());
  const ended = machine.ended.then(({ detail, reason }) => {
    throw new Error(`the machine ended first (${detail ?? reason})`);
  });
  ended.catch(() => {});
  await Promise.race([firstContact(channel, "sent", { signal }), ended]);
  await machine.pause();

  const made = undo.move();
  const dispose = () => made.disposeAsync();
  const rehearsed: Slot = {
    id: slot.id,
    pid: slot.pid,
    prepared: slot.prepared,
    ended: slot.ended,
    async resume({ firstWords } = {}) {
      const loadedAt = performance.now();
      if (firstWords !== undefined) channel.write(firstWords);
      await machine.unpause();
      return { machine, channel, loadedAt };
    },
    discard: () => machine.stop(),
    [Symbol.asyncDispose]: () => machine.stop(),
  };
  return { ...clone, slot: rehearsed, [Symbol.asyncDispose]: dispose };
}
