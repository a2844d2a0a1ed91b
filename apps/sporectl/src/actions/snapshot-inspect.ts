import type { Action } from "../cli/command.ts";
import type { SnapshotSeveralSignature } from "../commands/snapshots.ts";
import { snapshotDocument } from "../output/documents.ts";
import { snapshotLines } from "../output/snapshots.ts";
import { allSubjects, oneOrList } from "./several.ts";

export const action: Action<SnapshotSeveralSignature> = async (context, { snapshots }) => {
  const node = await context.node();
  const ask = (snapshot: string) => node.inspectSnapshot({ snapshot }, { signal: context.signal });
  const found = await allSubjects(context, snapshots, ask);
  if (context.json) {
    const config = (text: string): unknown => (text === "" ? null : JSON.parse(text));
    context.printJson(
      oneOrList(
        found.map((snapshot) => ({ ...snapshotDocument(snapshot), config: config(snapshot.configJson) })),
      ),
    );
  } else if (context.quiet) {
    context.print(...found.map((snapshot) => snapshot.digest));
  } else {
    for (const [i, snapshot] of found.entries()) {
      context.print(...(i > 0 ? [""] : []), ...snapshotLines(snapshot, context.io.now(), context.style));
    }
  }
  return 0;
};
