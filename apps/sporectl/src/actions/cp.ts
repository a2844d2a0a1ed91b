import { lstat, realpath, stat } from "node:fs/promises";
import path from "node:path";
import type { NodeClient } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { Action, Values } from "../cli/command.ts";
import type { Context } from "../cli/context.ts";
import { write } from "../cli/io.ts";
import { UsageError, usageError } from "../cli/usage.ts";
import type { CpSignature } from "../commands/files.ts";
import { type Endpoint, parseEndpoint } from "../cp/endpoint.ts";
import type { Kind } from "../cp/plan.ts";
import { createProgress } from "../output/progress.ts";

type CopyOptions = Values<CpSignature["options"]>;
type Guest = Extract<Endpoint, { kind: "guest" }>;

/** Largest piece of a tar in one message, bytes. */
const pieceBytes = 64 << 10;

export const action: Action<CpSignature> = async (context, args, options) => {
  const [source, target] = [args.source, args.target].map((text) => endpointOf(context, text));
  using progress = createProgress(context);
  if (source?.kind === "guest" && target?.kind === "stream") await guestToStream(context, source, options);
  else if (source?.kind === "stream" && target?.kind === "guest") await streamToGuest(context, target);
  else if (source?.kind === "guest" && target?.kind === "local") {
    progress.waiting(`copying ${args.source} to ${args.target}`);
    await guestToLocal(context, source, target.path, options);
  } else if (source?.kind === "local" && target?.kind === "guest") {
    progress.waiting(`copying ${args.source} to ${args.target}`);
    await localToGuest(context, source.path, target, options);
  } else {
    throw usageError(
      context.command,
      "exactly one of SRC and DST must be MACHINE:PATH",
      "between two machines: sporectl cp A:PATH - | sporectl cp - B:DIRECTORY",
    );
  }
  progress.end();
  return 0;
};

function endpointOf(context: Context, text: string): Endpoint {
  try {
    return parseEndpoint(text);
  } catch (error) {
    if (error instanceof UsageError) throw usageError(context.command, error.message, error.hint);
    throw error;
  }
}

async function guestToStream(context: Context, given: Guest, { followLink }: CopyOptions): Promise<void> {
  const node = await context.node();
  const source = followLink ? await followed(context, node, given) : given;
  for await (const data of readTar(context, node, source)) await write(context.io.stdout, data);
}

async function streamToGuest(context: Context, target: Guest): Promise<void> {
  const node = await context.node();
  if ((await guestKind(context, node, target.machine, target.path)) !== "directory") {
    throw new SporeletError({
      code: "failed_precondition",
      operation: "unpack into",
      subject: `${target.machine}:${target.path}`,
      reason: "it is not an existing directory",
      hint: `make it first: sporectl exec ${target.machine} mkdir -p ${target.path}`,
    });
  }
  await writeTar(
    context,
    node,
    target.machine,
    target.path,
    context.io.stdin.iterator({ destroyOnReturn: false }),
  );
}

async function guestToLocal(
  context: Context,
  asked: Guest,
  targetPath: string,
  { archive, followLink }: CopyOptions,
): Promise<void> {
  const [{ planCopy }, { unpackTree }] = await Promise.all([
    import("../cp/plan.ts"),
    import("../cp/unpack.ts"),
  ]);
  const node = await context.node();
  const source = followLink ? await followed(context, node, asked) : asked;
  const given = path.resolve(context.io.cwd, targetPath);
  const exists = (await localKind(given)) !== "missing";
  // What a link points to is replaced, not the link.
  const resolved = exists ? await realpath(given) : given;
  const plan = planCopy(
    {
      path: source.path,
      kind: await guestKind(context, node, source.machine, source.path),
      base: path.posix.basename(path.posix.normalize(asked.path)),
    },
    {
      path: targetPath,
      kind: await localKind(resolved),
      parentKind: await localKind(path.dirname(resolved)),
    },
  );
  const directory = plan.directory === "target" ? resolved : path.dirname(resolved);
  const name = plan.directory === "parent" ? path.basename(resolved) : plan.name;
  await unpackTree(readTar(context, node, source), directory, {
    name,
    archive,
    signal: context.signal,
    onSkipped: (entry) => context.note(`left out ${entry}: neither a file, a directory nor a link`),
  });
}

async function localToGuest(
  context: Context,
  sourcePath: string,
  target: Guest,
  { archive, followLink }: CopyOptions,
): Promise<void> {
  const [{ planCopy }, { packTree }] = await Promise.all([import("../cp/plan.ts"), import("../cp/pack.ts")]);
  const root = path.resolve(context.io.cwd, sourcePath);
  const isFollowed = followLink || /(^|\/)\.?$/.test(sourcePath);
  const kind = await localKind(root, isFollowed ? stat : lstat);
  // Said before anything is asked of a machine.
  const source = { path: sourcePath, kind, base: path.basename(root) };
  if (kind === "missing") planCopy(source, { path: target.path, kind: "directory", parentKind: "directory" });
  const node = await context.node();
  const parent = path.posix.dirname(target.path);
  const plan = planCopy(source, {
    path: `${target.machine}:${target.path}`,
    kind: await guestKind(context, node, target.machine, target.path),
    parentKind: await guestKind(context, node, target.machine, parent),
  });
  const tar = packTree(isFollowed ? await realpath(root) : root, {
    name: plan.name,
    archive,
    signal: context.signal,
    onSkipped: (file) => context.note(`left out ${file}: neither a file, a directory nor a link`),
  });
  await writeTar(context, node, target.machine, plan.directory === "target" ? target.path : parent, tar);
}

/** The same with all symbolic links resolved by the guest; as it was where the guest cannot. */
async function followed(context: Context, node: NodeClient, source: Guest): Promise<Guest> {
  const { machine } = source;
  const argv = ["readlink", "-f", "--", source.path];
  const chunks: Uint8Array[] = [];
  const requests = async function* () {
    yield { request: { case: "start" as const, value: { machine, argv } } };
  };
  for await (const { response } of node.exec(requests(), { signal: context.signal })) {
    if (response.case === "stdout") chunks.push(response.value);
  }
  const resolved = Buffer.concat(chunks).toString().replace(/\n$/, "");
  return resolved === "" ? source : { ...source, path: resolved + (/\/\.?$/.exec(source.path)?.[0] ?? "") };
}

async function localKind(file: string, look: typeof lstat | typeof stat = stat): Promise<Kind> {
  try {
    return (await look(file)).isDirectory() ? "directory" : "file";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return "missing";
    throw SporeletError.from(error, { operation: "look at", subject: file });
  }
}

async function guestKind(context: Context, node: NodeClient, machine: string, file: string): Promise<Kind> {
  const found = await node.statFile(
    { machine, path: path.posix.normalize(file) },
    { signal: context.signal },
  );
  if (!found.exists) return "missing";
  return found.directory ? "directory" : "file";
}

async function* readTar(context: Context, node: NodeClient, source: Guest): AsyncGenerator<Uint8Array> {
  // Without the slash or the dot at the end, which say what to do with the tree, not where it is.
  const file = path.posix.join("/", source.path, ".");
  for await (const { data } of node.readTar(
    { machine: source.machine, path: file },
    { signal: context.signal },
  ))
    yield data;
}

async function writeTar(
  context: Context,
  node: NodeClient,
  machine: string,
  directory: string,
  tar: AsyncIterable<Uint8Array>,
): Promise<void> {
  let failure: unknown;
  async function* requests() {
    yield {
      request: { case: "start" as const, value: { machine, directory: path.posix.normalize(directory) } },
    };
    try {
      for await (const data of tar) {
        for (let at = 0; at < data.length; at += pieceBytes) {
          const value = data.subarray(at, at + pieceBytes) as Uint8Array<ArrayBuffer>;
          yield { request: { case: "data" as const, value } };
        }
      }
    } catch (error) {
      failure = error;
      throw error;
    }
  }
  try {
    await node.writeTar(requests(), { signal: context.signal });
  } catch (error) {
    // Our own failure to read is the reason, not that the call ended early.
    throw failure ?? error;
  }
}
