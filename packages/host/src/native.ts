/**
 * Functions of the libraries inside of the Node binary, which exports them for add-ons: called by koffi on libuv's
 * threads they need neither copies nor new buffers and contexts for each call. Where a build of Node does
 * not export one, its users fall back to Node's own modules.
 */
import { createRequire } from "node:module";

export interface NativeFunction<Result> {
  /** On the calling thread. */
  (...args: unknown[]): Result;
  /** On another thread. Buffers must not change until the promise settles. */
  onThread(...args: unknown[]): Promise<Result>;
}

/** Arguments of calls under way: the other threads write to their memory, so they must not be collected. */
const inUse = new Set<unknown[]>();

/** @param prototype in C. @returns undefined when this Node does not export the function. */
export function nativeFunction<Result>(prototype: string): NativeFunction<Result> | undefined {
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  try {
    const call = koffi.load(null).func(prototype);
    const onThread = (...args: unknown[]) =>
      new Promise<Result>((resolve, reject) => {
        inUse.add(args);
        call.async(...args, (error: unknown, result: Result) => {
          inUse.delete(args);
          if (error) reject(error);
          else resolve(result);
        });
      });
    return Object.assign((...args: unknown[]) => call(...args) as Result, { onThread });
  } catch {
    return undefined;
  }
}
