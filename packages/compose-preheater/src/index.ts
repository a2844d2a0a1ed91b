export { agentGuest } from "./agent-guest.ts";
export type { Guest, GuestExecOptions, GuestResult } from "./guest.ts";
export { type PreheatEvent, type Preheated, type PreheatOptions, preheat } from "./preheat.ts";
export { type CommandWarmup, type HttpWarmup, isWarmup, type Warmup } from "./warmup.ts";
