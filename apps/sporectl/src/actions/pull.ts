import type { Action } from "../cli/command.ts";
import type { PullSignature } from "../commands/registry.ts";
import { snapshotDocument } from "../output/documents.ts";
import { humanBytes, shortDigest } from "../output/human.ts";
import { registryRequest } from "./registry-options.ts";
import { followTransfer } from "./transfer.ts";

export const action: Action<PullSignature> = async (context, { reference }, options) => {
  const node = await context.node();
  const registry = registryRequest(context, options);
  const events = node.pull({ reference, tag: options.tag ?? "", registry }, { signal: context.signal });
  const snapshot = await followTransfer(context, node, events, "result");
  if (context.json) context.printJson(snapshotDocument(snapshot));
  else if (context.quiet) context.print(snapshot.digest);
  else {
    const name = options.tag ?? snapshot.tags[0] ?? shortDigest(snapshot.digest);
    const sizes = `memory ${humanBytes(snapshot.memoryUsedBytes)}, disk ${humanBytes(snapshot.diskUsedBytes)}`;
    context.print(`${name}  ${shortDigest(snapshot.digest)}  ${sizes}`);
  }
  return 0;
};
