import type { Action } from "../cli/command.ts";
import type { CachePlainSignature } from "../commands/cache.ts";
import { noteSharing, usageColumns } from "../output/cache.ts";
import { humanBytes } from "../output/human.ts";
import { table } from "../output/table.ts";

export const action: Action<CachePlainSignature> = async (context) => {
  const node = await context.node();
  const usage = await node.cacheUsage({}, { signal: context.signal });
  const { kinds, totalBytes, capacityBytes, freeBytes, sharingUnknown } = usage;
  if (context.json) {
    context.printJson({
      kinds: kinds.map(({ kind, count, bytes, reclaimableBytes }) => ({
        kind,
        count,
        bytes: Number(bytes),
        reclaimableBytes: Number(reclaimableBytes),
      })),
      totalBytes: Number(totalBytes),
      capacityBytes: Number(capacityBytes),
      freeBytes: Number(freeBytes),
      sharingUnknown,
    });
    return 0;
  }
  if (context.quiet) {
    context.print(String(totalBytes));
    return 0;
  }
  const rows = [
    ...kinds.map(({ kind, count, bytes, reclaimableBytes: reclaimable }) => ({
      kind,
      count,
      bytes,
      reclaimable,
    })),
    { kind: "total", count: kinds.reduce((sum, { count }) => sum + count, 0), bytes: totalBytes },
  ];
  context.print(
    ...table(usageColumns(), rows, context.style.bold),
    "",
    `${humanBytes(freeBytes)} of ${humanBytes(capacityBytes)} are free`,
  );
  noteSharing(context, sharingUnknown);
  return 0;
};
