import { spawnSync } from "node:child_process";
import type { Input } from "../cli/io.ts";

/**
 * Hands the terminal to a program elsewhere until disposed of: every key goes there as it is, and what comes
 * back is shown as it is. It is restored however the process ends, short of SIGKILL.
 *
 * setRawMode leaves the local translation of newlines on (libuv, UV_TTY_MODE_RAW sets ONLCR), which breaks full-screen
 * programs, so stty(1) does it where there is one.
 */
export function rawMode(stdin: Input): Disposable {
  const saved = stty("-g");
  const isRaw = saved !== undefined && stty("raw", "-echo") !== undefined;
  if (!isRaw) stdin.setRawMode?.(true);
  const restore = () => {
    if (saved !== undefined && isRaw) stty(saved);
    else stdin.setRawMode?.(false);
  };
  process.on("exit", restore);
  return {
    [Symbol.dispose]() {
      process.off("exit", restore);
      restore();
    },
  };
}

/** @returns what it printed; undefined when it failed */
function stty(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync("stty", args, {
    stdio: ["inherit", "pipe", "ignore"],
    encoding: "utf8",
  });
  return status === 0 ? stdout.trim() : undefined;
}
