export { type CaptureOptions, captureMemory, type MemoryCapture, prepareCapture } from "./capture.ts";
export type * from "./contract.ts";
export { applyPageJournal } from "./page-journal.ts";
export { createQemu, type QemuOptions } from "./qemu/driver.ts";
export { type StateOrigin, stateOrigin } from "./state-origin.ts";
