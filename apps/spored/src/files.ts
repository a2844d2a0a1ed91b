import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { agent, node as api, fromConnectError } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { frozenMeanwhile } from "./agent-link.ts";
import type { Node } from "./node.ts";
import { awake } from "./wake.ts";

const fileTypeMask = 0o170000;
const directoryType = 0o040000;

/** ReadTar: the agent's own, piped through. */
export async function* readTar(
  node: Node,
  request: api.ReadTarRequest,
  context: HandlerContext,
): AsyncGenerator<api.Chunk> {
  const operation = "copy from";
  const machine = node.machines.find(request.machine, operation);
  using _busy = machine.idleness?.begin();
  const { agent: link } = await awake(node, machine, operation, context.signal);
  using lease = await link.lease(context.signal);
  try {
    for await (const { data } of lease.client.readTar({ path: request.path }, { signal: context.signal })) {
      yield create(api.ChunkSchema, { data });
    }
  } catch (error) {
    const context = { operation, subject: `${machine.name}:${request.path}` };
    throw frozenMeanwhile(lease, context, error) ?? fromConnectError(error, context);
  }
}

/** WriteTar: the agent's own, piped through. */
export async function writeTar(
  node: Node,
  requests: AsyncIterable<api.WriteTarRequest>,
  context: HandlerContext,
): Promise<void> {
  const operation = "copy to";
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  const start = first.done ? undefined : first.value.request;
  if (start?.case !== "start") {
    const reason = "the first request holds no start";
    throw new SporeletError({ code: "invalid_argument", operation: "write a tar stream", reason });
  }
  const { machine: reference, directory } = start.value;
  const machine = node.machines.find(reference, operation);
  using _busy = machine.idleness?.begin();
  const { agent: link } = await awake(node, machine, operation, context.signal);
  using lease = await link.lease(context.signal);
  try {
    await lease.client.writeTar(tarToAgent(directory, iterator), { signal: context.signal });
  } catch (error) {
    const context = { operation, subject: `${machine.name}:${directory}` };
    throw frozenMeanwhile(lease, context, error) ?? fromConnectError(error, context);
  }
}

async function* tarToAgent(
  directory: string,
  rest: AsyncIterator<api.WriteTarRequest>,
): AsyncGenerator<agent.WriteTarRequest> {
  const start = create(agent.WriteTarStartSchema, { directory });
  yield create(agent.WriteTarRequestSchema, { request: { case: "start", value: start } });
  for (;;) {
    const { done, value } = await rest.next();
    if (done) return;
    if (value.request.case !== "data") continue;
    yield create(agent.WriteTarRequestSchema, { request: value.request });
  }
}

/** StatFile: what `cp` has to know of its target. Links are followed. */
export async function statFile(
  node: Node,
  request: api.StatFileRequest,
  context: HandlerContext,
): Promise<{ exists: boolean; directory?: boolean; size?: bigint }> {
  const operation = "look for";
  const machine = node.machines.find(request.machine, operation);
  using _busy = machine.idleness?.begin();
  const { agent: link } = await awake(node, machine, operation, context.signal);
  using lease = await link.lease(context.signal);
  try {
    const options = { signal: context.signal };
    const info = await lease.client.stat({ path: request.path, followSymlinks: true }, options);
    return { exists: true, directory: (info.mode & fileTypeMask) === directoryType, size: info.size };
  } catch (error) {
    const ours = fromConnectError(error, { operation, subject: `${machine.name}:${request.path}` });
    if (ours.code === "not_found") return { exists: false };
    throw ours;
  }
}
