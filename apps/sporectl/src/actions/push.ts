import type { Action } from "../cli/command.ts";
import type { PushSignature } from "../commands/registry.ts";
import { humanBytes } from "../output/human.ts";
import { registryRequest } from "./registry-options.ts";
import { followTransfer } from "./transfer.ts";

export const action: Action<PushSignature> = async (context, { snapshot, target = "" }, options) => {
  const node = await context.node();
  const { addVariant, allowSecrets } = options;
  const registry = registryRequest(context, options);
  const events = node.push(
    { snapshot, target, registry, addVariant, allowSecrets },
    { signal: context.signal },
  );
  const pushed = await followTransfer(context, node, events, "pushed");
  const sentBytes = Number(pushed.sentBytes);
  const reusedBytes = Number(pushed.reusedBytes);
  const { reference, digest } = pushed;
  if (context.json)
    context.printJson({ reference, digest, snapshot: pushed.snapshot, sentBytes, reusedBytes });
  else context.print(context.quiet ? digest : `${reference}@${digest}`);
  const reused = reusedBytes > 0 ? `; ${humanBytes(reusedBytes)} were there already` : "";
  context.note(`sent ${humanBytes(sentBytes)}${reused}`);
  return 0;
};
