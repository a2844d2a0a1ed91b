import { locateNode } from "@sporelet/api";
import { errorCodes } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { NodeStatusSignature } from "../commands/node.ts";

export const action: Action<NodeStatusSignature> = async (context) => {
  const node = await context.runningNode();
  const answer = await node?.version({}, { signal: context.signal });
  if (answer === undefined) {
    if (context.json) context.printJson({ running: false, home: context.home });
    else context.print(`no spored runs for ${context.home}`);
    return errorCodes.unavailable;
  }
  const socket = locateNode(context.home)?.socket ?? "";
  if (context.json)
    context.printJson({ running: true, pid: answer.pid, version: answer.version, home: answer.home, socket });
  else if (context.quiet) context.print(String(answer.pid));
  else context.print(`spored ${answer.version} runs (pid ${answer.pid}, ${answer.home})`);
  return 0;
};
