import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { entriesOf, type Layout, requireSafeName, takeAway } from "./layout.ts";

/** The directories of machines: their disks and logs. */
export interface MachineDirectories {
  /** The path of a machine's directory, whether it exists or not. */
  path(id: string): string;
  /** @throws SporeletError `already_exists`. */
  create(id: string): Promise<string>;
  /** Ids of machines that have one. */
  list(): Promise<string[]>;
  /** Removes it with all that is in it; one that is gone already is fine. */
  remove(id: string): Promise<void>;
}

export function createMachineDirectories(layout: Layout): MachineDirectories {
  const path = (id: string) => join(layout.machines, requireSafeName(id, "use the machine id"));
  return {
    path,
    async create(id) {
      const directory = path(id);
      try {
        await mkdir(directory, { mode: 0o700 });
        return directory;
      } catch (error) {
        const context = { operation: "create the directory of machine", subject: id };
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw SporeletError.from(error, context);
        throw new SporeletError({ ...context, code: "already_exists", reason: "there is one", cause: error });
      }
    },
    async list() {
      return (await entriesOf(layout.machines))
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name);
    },
    async remove(id) {
      const directory = path(id);
      try {
        await takeAway(layout, directory);
      } catch (error) {
        throw SporeletError.from(error, { operation: "remove the directory of machine", subject: id });
      }
    },
  };
}
