import type { Action } from "../cli/command.ts";
import type { SeveralSignature } from "../commands/machines.ts";
import { forEachSubject } from "./several.ts";

export const action: Action<SeveralSignature> = async (context, { machines }) => {
  const node = await context.node();
  const suspend = (machine: string) => node.suspend({ machine }, { signal: context.signal });
  return await forEachSubject(context, machines, suspend, (_machine, given) => context.print(given));
};
