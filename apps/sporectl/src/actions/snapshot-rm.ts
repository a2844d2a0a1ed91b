import { exitCodeOf, SporeletError } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { SnapshotRmSignature } from "../commands/snapshots.ts";
import { errorLines } from "../output/report-error.ts";

export const action: Action<SnapshotRmSignature> = async (context, { snapshots }, { force, dryRun }) => {
  const node = await context.node();
  const untagged: string[] = [];
  const deleted: string[] = [];
  let failure: SporeletError | undefined;
  // One after the other: several names may belong to one snapshot, which goes with the last of them.
  for (const snapshot of snapshots) {
    try {
      const removed = await node.removeSnapshot({ snapshot, force, dryRun }, { signal: context.signal });
      untagged.push(...removed.untagged);
      deleted.push(...removed.deleted);
      if (context.json) continue;
      if (context.quiet) context.print(...removed.deleted);
      else
        context.print(
          ...removed.untagged.map((tag) => `${dryRun ? "would untag" : "untagged"} ${tag}`),
          ...removed.deleted.map((digest) => `${dryRun ? "would delete" : "deleted"} ${digest}`),
        );
    } catch (error) {
      context.signal.throwIfAborted();
      const ours = SporeletError.from(error, { operation: "remove snapshot", subject: snapshot });
      failure ??= ours;
      context.io.stderr.write(
        `${errorLines(ours, context.errorStyle, context.io.stderr.columns).join("\n")}\n`,
      );
    }
  }
  if (context.json)
    context.printJson({
      untagged,
      deleted,
      ...(failure && { error: { message: failure.message, ...failure.toJSON() } }),
    });
  return failure === undefined ? 0 : exitCodeOf(failure);
};
