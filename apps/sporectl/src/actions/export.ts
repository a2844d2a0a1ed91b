import path from "node:path";
import type { Action } from "../cli/command.ts";
import type { ExportSignature } from "../commands/registry.ts";
import { snapshotDocument } from "../output/documents.ts";
import { followTransfer } from "./transfer.ts";

export const action: Action<ExportSignature> = async (context, args, { force }) => {
  const directory = path.resolve(context.io.cwd, args.directory);
  const node = await context.node();
  const request = { snapshot: args.snapshot, directory, force };
  const events = node.exportSnapshot(request, { signal: context.signal });
  const snapshot = await followTransfer(context, node, events, "result");
  if (context.json) context.printJson({ ...snapshotDocument(snapshot), exportedTo: directory });
  else context.print(directory);
  return 0;
};
