import { SporeletError } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { RmSignature } from "../commands/machines.ts";
import { forEachSubject } from "./several.ts";

export const action: Action<RmSignature> = async (context, { machines }, { force }) => {
  const node = await context.node();
  const remove = async (machine: string): Promise<boolean> => {
    try {
      await node.removeMachine({ machine, force }, { signal: context.signal });
      return true;
    } catch (error) {
      if (force && error instanceof SporeletError && error.code === "not_found") return false;
      throw error;
    }
  };
  return await forEachSubject(context, machines, remove, (removed, given) => {
    if (removed) context.print(given);
    else context.note(`there is no machine ${given}`);
  });
};
