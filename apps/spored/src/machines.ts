import { randomBytes } from "node:crypto";
import { nearest, SporeletError } from "@sporelet/errors";
import type { ManagedMachine } from "./machine.ts";

/** The machines of this node, by id and name. */
export interface Machines extends Iterable<ManagedMachine> {
  add(machine: ManagedMachine): void;
  delete(machine: ManagedMachine): void;
  hasName(name: string): boolean;
  /**
   * The machine with this id, unique beginning of an id (at least two digits), or name.
   * @throws SporeletError `not_found` with the nearest names, `invalid_argument` for an ambiguous beginning
   */
  find(reference: string, operation: string): ManagedMachine;
  /** An id that no machine has: 12 hexadecimal digits. */
  newId(): string;
}

export function createMachines(): Machines {
  const byId = new Map<string, ManagedMachine>();
  const all = () => [...byId.values()];
  return {
    add: (machine) => void byId.set(machine.id, machine),
    delete: (machine) => void byId.delete(machine.id),
    hasName: (name) => all().some((machine) => machine.name === name),
    find(reference, operation) {
      const exact = byId.get(reference) ?? all().find(({ name }) => name === reference);
      if (exact !== undefined) return exact;
      const begun = /^[0-9a-f]{2,}$/.test(reference)
        ? all().filter(({ id }) => id.startsWith(reference))
        : [];
      if (begun.length === 1 && begun[0] !== undefined) return begun[0];
      if (begun.length > 1) {
        throw new SporeletError({
          code: "invalid_argument",
          operation,
          subject: reference,
          reason: `${begun.length} machines have an id that begins so: ${begun.map(({ name }) => name).join(", ")}`,
          hint: "give more digits, or a name",
        });
      }
      throw notFound(reference, operation, all());
    },
    newId() {
      for (;;) {
        const id = randomBytes(6).toString("hex");
        if (!byId.has(id)) return id;
      }
    },
    [Symbol.iterator]: () => all()[Symbol.iterator](),
  };
}

function notFound(reference: string, operation: string, machines: ManagedMachine[]): SporeletError {
  const names = nearest(
    reference,
    machines.map(({ name }) => name),
  );
  return new SporeletError({
    code: "not_found",
    operation,
    subject: JSON.stringify(reference),
    reason: machines.length === 0 ? "there are no machines" : "no machine has this name or id",
    hint: names.length > 0 ? `did you mean ${names.join(" or ")}?` : "sporectl ps lists the machines",
  });
}
