export * as agent from "./gen/sporelet/agent/v1/agent_pb.ts";
export * as node from "./gen/sporelet/node/v1/node_pb.ts";
