export type * from "./contract.ts";
export { createQemu, type QemuOptions } from "./qemu/driver.ts";
