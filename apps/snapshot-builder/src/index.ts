export { type BootAndFreezeOptions, bootAndFreeze } from "./boot-and-freeze.ts";
export { type BuildOptions, buildSnapshot } from "./build.ts";
export type { BuildEvent, BuildLog, BuildStep, OnBuildEvent, StepId } from "./events.ts";
export { buildLayer0, type Layer0, type Layer0Options } from "./layer0/build.ts";
export { loadProject, type Project } from "./project/load.ts";
export type { NetworkLease } from "./vm/network.ts";
export type { Recorder, Recording } from "./working-set/record.ts";
