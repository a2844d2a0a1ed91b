export { type CaptureOptions, captureMemory, type MemoryCapture, prepareCapture } from "./capture.ts";
export type * from "./contract.ts";
export { createQemu, type QemuOptions } from "./qemu/driver.ts";
