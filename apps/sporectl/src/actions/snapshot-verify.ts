import type { Action } from "../cli/command.ts";
import type { SnapshotSeveralSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";
import { createProgress } from "../output/progress.ts";
import { allSubjects, oneOrList } from "./several.ts";

export const action: Action<SnapshotSeveralSignature> = async (context, { snapshots }) => {
  const node = await context.node();
  using progress = createProgress(context);
  progress.waiting("reading every page");
  const verify = (snapshot: string) => node.verifySnapshot({ snapshot }, { signal: context.signal });
  const found = await allSubjects(context, snapshots, verify);
  progress.end();
  if (context.json) context.printJson(oneOrList(found.map(snapshotDocument)));
  else
    for (const [i, snapshot] of found.entries())
      context.print(context.quiet ? snapshot.digest : `${snapshots[i]}: ok (${snapshot.digest})`);
  return 0;
};
