import type { Action } from "../cli/command.ts";
import type { WakeSignature } from "../commands/machines.ts";
import { environmentOf } from "../exec/environment.ts";
import { forEachSubject } from "./several.ts";

export const action: Action<WakeSignature> = async (context, { machines }, options) => {
  const env = environmentOf(context, options.env, options.envFile);
  const node = await context.node();
  const wake = (machine: string) => node.wake({ machine, env }, { signal: context.signal });
  return await forEachSubject(context, machines, wake, (_machine, given) => context.print(given));
};
