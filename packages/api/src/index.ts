export { type CallContext, fromConnectError, toConnectError } from "./errors.ts";
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
