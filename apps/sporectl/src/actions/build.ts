import { statSync } from "node:fs";
import path from "node:path";
import type { node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import type { BuildSignature } from "../commands/host.ts";
import { snapshotDocument } from "../output/documents.ts";
import { humanBytes, humanMs, shortDigest } from "../output/human.ts";
import { createProgress } from "../output/progress.ts";
import { stepOf } from "../output/steps.ts";
import { cleanedUp } from "./cleanup.ts";

export const action: Action<BuildSignature> = async (context, args, options) => {
  const projectPath = path.resolve(context.io.cwd, args.path);
  const tag = options.tag ?? defaultTag(projectPath);
  const node = await context.node();
  const begun = context.io.now();
  using progress = createProgress(context, options.progress);
  const request = {
    path: projectPath,
    tag,
    layer: options.layer,
    noCache: !options.cache,
    timeoutMs: options.timeout,
  };
  let snapshot: node.Snapshot | undefined;
  try {
    for await (const { event } of node.build(request, { signal: context.signal })) {
      if (event.case === "step") progress.step(stepOf(event.value));
      else if (event.case === "log") progress.log(event.value.source, event.value.line);
      else if (event.case === "result") snapshot = event.value;
    }
  } catch (error) {
    progress.end();
    await cleanedUp(context, node);
    throw error;
  }
  progress.end();
  if (snapshot === undefined) {
    throw new SporeletError({
      code: "unavailable",
      operation: "build",
      subject: tag,
      reason: "spored ended before the build did",
    });
  }
  if (context.json) context.printJson(snapshotDocument(snapshot));
  else if (context.quiet) context.print(snapshot.digest);
  else {
    const name = snapshot.tags.find((candidate) => candidate === tag || candidate === `${tag}:latest`) ?? tag;
    const sizes = `memory ${humanBytes(snapshot.memoryUsedBytes)}, disk ${humanBytes(snapshot.diskUsedBytes)}`;
    context.print(`${name}  ${shortDigest(snapshot.digest)}  ${sizes}`);
    context.note(
      `built in ${humanMs(context.io.now() - begun)}; try: sporectl run ${name}${snapshot.ports.length > 0 ? " -P" : ""}`,
    );
  }
  return 0;
};

/** The name of the project's directory, in the alphabet of snapshot names. */
function defaultTag(projectPath: string): string {
  const isFile = statSync(projectPath, { throwIfNoEntry: false })?.isFile() === true;
  const directory = isFile ? path.dirname(projectPath) : projectPath;
  const name = path
    .basename(directory)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, "-")
    .replaceAll(/^[._-]+|[._-]+$/g, "");
  return name === "" ? "project" : name;
}
