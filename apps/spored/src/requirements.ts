import { isDeepStrictEqual } from "node:util";
import { type GateHost, type Refusal, sameClock, whyNot } from "./gate.ts";
import { needsIn, type StateNeeds } from "./state-needs.ts";

export { gateHost } from "./gate-host.ts";
export { requirementsOf } from "./state-needs.ts";

/** One of the forms of a snapshot in an index; see `requirementsOf`. */
interface VariantEntry {
  requirements: Readonly<Record<string, string>>;
}

/** Why a variant was not chosen. */
export interface VariantRefusal<V> extends Refusal {
  variant: V;
}

/** Faster first. */
const accelerators = ["kvm", "tcg"];

/**
 * Which variant a host is to restore: of those that it can, one with the best accelerator, and of these the
 * newest. When there is none: why not each, and which of them this host can at least boot cold. Pure.
 */
export function chooseVariant<V extends VariantEntry>(
  variants: readonly V[],
  host: GateHost,
): { chosen: V } | { refusals: VariantRefusal<V>[]; bootable?: V } {
  const read = variants.map((variant) => ({ variant, needs: needsIn(variant.requirements) }));
  const known = read.flatMap(({ variant, needs }) => ("wrong" in needs ? [] : [{ variant, needs }]));
  known.sort((a, b) => preference(a.needs, b.needs));
  const refusals: VariantRefusal<V>[] = [];
  for (const { variant, needs } of known) {
    const refusal = whyNot(needs, host);
    if (refusal === undefined) return { chosen: variant };
    refusals.push({ variant, ...refusal });
  }
  for (const { variant, needs } of read) {
    if (!("wrong" in needs)) continue;
    const reason = `its entry in the index does not say ${needs.wrong}, or not in a way known here`;
    refusals.push({ variant, reason, bootable: false, whyNotBootable: reason });
  }
  const bootable = refusals.find((refusal) => refusal.bootable)?.variant;
  return { refusals, ...(bootable !== undefined && { bootable }) };
}

/** Whether two variants are for the same hosts, so that an index needs only one of them. Pure. */
export function sameHosts(one: VariantEntry, other: VariantEntry): boolean {
  const [a, b] = [needsIn(one.requirements), needsIn(other.requirements)];
  if ("wrong" in a || "wrong" in b) return false;
  // What one and the same snapshot may differ in on one and the same host.
  const alike = { created: "", memoryBytes: 0, kernel: "", tscKhz: 0 };
  return isDeepStrictEqual({ ...a, ...alike }, { ...b, ...alike }) && sameClock(a.tscKhz, b.tscKhz);
}

function preference(a: StateNeeds, b: StateNeeds): number {
  return rank(a) - rank(b) || Date.parse(b.created) - Date.parse(a.created) || 0;
}

function rank({ accelerator }: StateNeeds): number {
  const found = accelerators.indexOf(accelerator);
  return found < 0 ? accelerators.length : found;
}
