import type { Action } from "../cli/command.ts";
import type { StopSignature } from "../commands/machines.ts";
import { forEachSubject } from "./several.ts";

export const action: Action<StopSignature> = async (context, { machines }, { time }) => {
  const node = await context.node();
  const stop = (machine: string) => node.stop({ machine, timeoutMs: time }, { signal: context.signal });
  return await forEachSubject(context, machines, stop, (_machine, given) => context.print(given));
};
