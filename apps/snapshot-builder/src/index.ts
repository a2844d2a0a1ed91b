export type { BuildEvent, BuildLog, BuildStep, OnBuildEvent, StepId } from "./events.ts";
export { buildLayer0, type Layer0, type Layer0Options } from "./layer0/build.ts";
