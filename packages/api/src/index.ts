export {
  type AgentClient,
  type AgentConnection,
  agentProtocol,
  connectAgent,
  type FirstContactOptions,
  firstContact,
  type HelloInit,
  helloFrame,
} from "./agent-client.ts";
export { type CallContext, fromConnectError, toConnectError } from "./errors.ts";
export {
  type ExecOptions,
  type ExecOutput,
  type ExecResult,
  exec,
  execOutput,
  type RunningExec,
  startExec,
  type WindowSize,
} from "./exec.ts";
export * as agent from "./gen/sporelet/agent/v1/agent_pb.ts";
export * as node from "./gen/sporelet/node/v1/node_pb.ts";
export { type NodeClient, type NodeClientOptions, nodeClient, streamWindowBytes } from "./node-client.ts";
export {
  type ConnectNodeOptions,
  connectNode,
  type Readiness,
  readinessFd,
  type StartedNode,
  type StartNodeOptions,
  startNode,
} from "./node-client-start.ts";
export { locateNode, type NodeRecord, nodeRecordPath, sporeletHome, startTicksOf } from "./socket.ts";
