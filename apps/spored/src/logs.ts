import path from "node:path";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { node as api, execOutput, fromConnectError } from "@sporelet/api";
import { nearest, SporeletError } from "@sporelet/errors";
import { readLog } from "./log-files.ts";
import { type ManagedMachine, requireState } from "./machine.ts";
import type { Node } from "./node.ts";

const operation = "show the log of";

/** Logs: the guest's console, the agent's or the VMM's log, or that of a Compose service. */
export async function* logs(
  node: Node,
  request: api.LogsRequest,
  context: HandlerContext,
): AsyncGenerator<api.Chunk> {
  const machine = node.machines.find(request.machine, operation);
  using _busy = request.follow ? machine.idleness?.begin() : undefined;
  for await (const data of source(node, machine, request, context.signal)) {
    yield create(api.ChunkSchema, { data });
  }
}

function source(
  node: Node,
  machine: ManagedMachine,
  request: api.LogsRequest,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const { follow, tail } = request;
  switch (request.source) {
    case "":
    case "console":
    case "vmm": {
      const file = path.join(machine.record.directory, `${request.source || "console"}.log`);
      // A machine that stops ends the following; what it wrote last is still read.
      const end = AbortSignal.any([signal, machine.stopped.signal, node.shutdown]);
      // One that is just ending has its last words still to come.
      const lives = machine.live !== undefined || (machine.ending && !machine.stopped.signal.aborted);
      return readLog(file, { tail, follow: follow && lives, signal: end });
    }
    case "agent":
      return agentLog(machine, { follow, tail }, signal);
    default:
      return serviceLog(node, machine, request, signal);
  }
}

async function* agentLog(
  machine: ManagedMachine,
  request: { follow: boolean; tail: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { agent } = requireState(machine, operation, ["running"]);
  using lease = await agent.lease(signal);
  try {
    for await (const { data } of lease.client.logs(request, { signal })) yield data;
  } catch (error) {
    throw fromConnectError(error, { operation, subject: machine.name });
  }
}

/** `docker logs` in the guest, of the container that Compose labelled with the service's name. */
async function* serviceLog(
  node: Node,
  machine: ManagedMachine,
  { source: service, follow, tail }: api.LogsRequest,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { agent } = requireState(machine, operation, ["running"]);
  const { config } = await node.store
    .resolve(machine.record.snapshotDigest)
    .catch(() => ({ config: undefined }));
  if (config !== undefined && !config.services.includes(service))
    throw noService(machine, service, config.services);
  using lease = await agent.lease(signal);
  const label = `label=com.docker.compose.service=${service}`;
  const list = ["docker", "ps", "--all", "--no-trunc", "--quiet", "--filter", label];
  const { code, stdout, stderr } = await execOutput(lease.client, { argv: list }, signal);
  if (code !== 0) {
    throw new SporeletError({
      code: "guest_failed",
      operation,
      subject: `${service} in ${machine.name}`,
      reason: `docker ps in the guest ended with ${code}`,
      log: stderr.toString("utf8") || undefined,
    });
  }
  const [container] = stdout.toString("utf8").split("\n");
  if (!container) throw noService(machine, service, config?.services ?? []);
  const argv = [
    "docker",
    "logs",
    ...(follow ? ["--follow"] : []),
    ...(tail > 0 ? ["--tail", `${tail}`] : []),
    container,
  ];
  try {
    // stdin stays closed; docker tells the container's stdout from its stderr, here they are one stream.
    const start = { request: { case: "start", value: { argv } } } as const;
    async function* only() {
      yield start;
    }
    for await (const { response } of lease.client.exec(only(), { signal })) {
      if (response.case === "stdout" || response.case === "stderr") yield response.value;
    }
  } catch (error) {
    throw fromConnectError(error, { operation, subject: `${service} in ${machine.name}` });
  }
}

function noService(machine: ManagedMachine, service: string, services: readonly string[]): SporeletError {
  const near = nearest(service, [...services, "console", "agent", "vmm"]);
  return new SporeletError({
    code: "not_found",
    operation,
    subject: `${JSON.stringify(service)} in ${machine.name}`,
    reason: "it has no such service",
    hint:
      near.length > 0
        ? `did you mean ${near.join(" or ")}?`
        : `there are console, agent, vmm${services.length > 0 ? `, ${services.join(", ")}` : ""}`,
  });
}
