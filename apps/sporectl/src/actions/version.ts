import type { Action } from "../cli/command.ts";
import { version } from "../cli/version.ts";
import type { VersionSignature } from "../commands/other.ts";

export const action: Action<VersionSignature> = async (context) => {
  const node = await context.runningNode();
  const spored = await node?.version({}, { signal: context.signal });
  const sameVersion = spored === undefined || spored.version === version;
  if (context.json) {
    context.printJson({
      sporectl: version,
      spored: spored ? { version: spored.version, pid: spored.pid, home: spored.home } : null,
    });
    return 0;
  }
  context.print(`sporectl ${version}`);
  context.print(
    spored ? `spored   ${spored.version} (pid ${spored.pid}, ${spored.home})` : "spored   not running",
  );
  if (!sameVersion)
    context.note(
      "the versions differ: sporectl node stop ends the old spored, and the next command starts the new one",
    );
  return 0;
};
