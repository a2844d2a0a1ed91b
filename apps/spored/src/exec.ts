import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { agent, node as api, fromConnectError } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { frozenMeanwhile } from "./agent-link.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Node } from "./node.ts";
import { awake } from "./wake.ts";

/** Exec: the agent's own Exec, with the machine looked up from the first request. */
export async function* exec(
  node: Node,
  requests: AsyncIterable<api.ExecRequest>,
  context: HandlerContext,
): AsyncGenerator<api.ExecResponse> {
  const iterator = requests[Symbol.asyncIterator]();
  const first = await iterator.next();
  const start = first.done ? undefined : first.value.request;
  if (start?.case !== "start") throw invalid("the first request holds no start");
  const { machine: reference, ...rest } = start.value;
  if (rest.argv.length === 0) throw invalid("no command is given");
  const machine = node.machines.find(reference, "run a command in");
  using _busy = machine.idleness?.begin();
  const { agent: link } = await awake(node, machine, "run a command in", context.signal);
  using lease = await link.lease(context.signal);
  const { argv, env, workingDirectory, user, tty, size } = rest;
  const agentStart = create(agent.ExecStartSchema, {
    ...{ argv, env, workingDirectory, user, tty },
    ...(size && { size: { columns: size.columns, rows: size.rows } }),
  });
  try {
    const responses = lease.client.exec(toAgent(agentStart, iterator), { signal: context.signal });
    for await (const { response } of responses) {
      const value = fromAgent(response);
      if (value !== undefined) yield value;
    }
  } catch (error) {
    const context = { operation: "run", subject: `${argv[0]} in ${machine.name}` };
    throw frozenMeanwhile(lease, context, error) ?? execError(error, machine, context);
  }
}

/** One message in, one message out: backpressure is that of the two streams. */
async function* toAgent(
  start: agent.ExecStart,
  rest: AsyncIterator<api.ExecRequest>,
): AsyncGenerator<agent.ExecRequest> {
  const request = (value: agent.ExecRequest["request"]) =>
    create(agent.ExecRequestSchema, { request: value });
  yield request({ case: "start", value: start });
  for (;;) {
    const { done, value } = await rest.next();
    if (done) return;
    const { request: said } = value;
    switch (said.case) {
      case "stdin":
      case "signal":
        yield request(said);
        break;
      case "closeStdin":
        yield request({ case: "closeStdin", value: create(agent.EmptySchema) });
        break;
      case "resize": {
        const { columns, rows } = said.value;
        yield request({ case: "resize", value: create(agent.WindowSizeSchema, { columns, rows }) });
        break;
      }
      default:
        throw invalid("a later request holds neither input, size nor signal");
    }
  }
}

function fromAgent(response: agent.ExecResponse["response"]): api.ExecResponse | undefined {
  const reply = (value: api.ExecResponse["response"]) => create(api.ExecResponseSchema, { response: value });
  switch (response.case) {
    case "started":
      return reply({ case: "pid", value: response.value.pid });
    case "stdout":
    case "stderr":
      return reply(response);
    case "exit": {
      const { code, signal } = response.value;
      return reply({ case: "exit", value: create(api.ExecExitSchema, { code, signal }) });
    }
    default:
      return undefined;
  }
}

/** A machine that ended meanwhile explains more than the broken stream that came of it. */
function execError(
  error: unknown,
  machine: ManagedMachine,
  context: { operation: string; subject: string },
): SporeletError {
  const ours = fromConnectError(error, context);
  if (machine.live !== undefined || ours.code === "cancelled") return ours;
  return new SporeletError({
    ...context,
    code: "unavailable",
    reason: `the machine ${machine.record.state === "running" ? "stopped" : `is ${machine.record.state}`}`,
    hint: machine.record.failure,
    cause: error,
  });
}

function invalid(reason: string): SporeletError {
  return new SporeletError({ code: "invalid_argument", operation: "run a command", reason });
}
