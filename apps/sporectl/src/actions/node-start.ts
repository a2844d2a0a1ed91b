import { locateNode, nodeClient, startNode } from "@sporelet/api";
import type { Action } from "../cli/command.ts";
import type { NodeStartSignature } from "../commands/node.ts";
import { createProgress } from "../output/progress.ts";

export const action: Action<NodeStartSignature> = async (context, _args, { idleExit }) => {
  const ran = locateNode(context.home) !== undefined;
  using progress = createProgress(context);
  progress.waiting("starting spored");
  const started = await startNode(context.home, {
    idleExitSeconds: Math.ceil(idleExit / 1000),
    signal: context.signal,
  });
  progress.end();
  for (const notice of started.notices) context.note(notice);
  using client = nodeClient({ socketPath: started.socket });
  const answer = await client.version({}, { signal: context.signal });
  if (context.json) {
    context.printJson({
      started: !ran,
      pid: answer.pid,
      version: answer.version,
      home: answer.home,
      socket: started.socket,
    });
  } else if (context.quiet) {
    context.print(String(answer.pid));
  } else {
    context.print(
      `spored ${answer.version} ${ran ? "was running" : "started"} (pid ${answer.pid}, ${answer.home})`,
    );
  }
  return 0;
};
