import { runProcess } from "@sporelet/host";

/** microvm with ACPI (5.2), JSON-less -blockdev, `fd:` migration and device states as used here. */
export const oldestVersion = [7, 0] as const;

/**
 * The version in what `qemu-system-x86_64 --version` prints: "QEMU emulator version 7.2.22 (Debian 1:7.2+…)".
 * The package is part of it: a microvm's state belongs to one build (qemu: docs/system/i386/microvm.rst).
 */
export function parseVersion(text: string): { version: string; numbers: number[] } | undefined {
  const found = /^QEMU emulator version (\d+(?:\.\d+)+)[^\S\n]*(\(.*\))?/m.exec(text);
  if (found?.[1] === undefined) return undefined;
  const version = found[2] === undefined ? found[1] : `${found[1]} ${found[2]}`;
  return { version, numbers: found[1].split(".").map(Number) };
}

export function isTooOld(numbers: readonly number[]): boolean {
  const [major = 0, minor = 0] = numbers;
  return major < oldestVersion[0] || (major === oldestVersion[0] && minor < oldestVersion[1]);
}

/** Accelerators that were compiled in, from what `-accel help` prints: a heading, then one name per line. */
export function parseAccelerators(text: string): string[] {
  return text
    .split("\n")
    .slice(1)
    .map((line) => line.trim())
    .filter(Boolean);
}

/** Asks a QEMU what it is. @throws SporeletError `unsupported` when it is missing. */
export async function askVersion(binary: string, signal?: AbortSignal) {
  const ask = (argument: string[]) =>
    runProcess([binary, ...argument], {
      operation: "ask QEMU for its version",
      timeoutMs: 10_000,
      ...(signal && { signal }),
    });
  const [version, accelerators] = await Promise.all([ask(["--version"]), ask(["-accel", "help"])]);
  return { ...parseVersion(version.stdout), accelerators: parseAccelerators(accelerators.stdout) };
}
