import type { Action } from "../cli/command.ts";
import { write } from "../cli/io.ts";
import type { LogsSignature } from "../commands/files.ts";

export const action: Action<LogsSignature> = async (context, { machine, source }, { follow, tail }) => {
  const node = await context.node();
  const request = { machine, source: source ?? "console", follow, tail };
  try {
    for await (const { data } of node.logs(request, { signal: context.signal })) {
      await write(context.io.stdout, data);
    }
  } catch (error) {
    // Ctrl-C is how one stops following: not a failure.
    if (!(follow && context.signal.aborted)) throw error;
  }
  return 0;
};
