import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { describe, expect, it } from "vitest";
import { processStartTicks, runProcess } from "./process.ts";

const operation = "run a test program";
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.fail("it did not fail"),
    (error: SporeletError) => error,
  );

describe("runProcess", () => {
  it("returns what the program wrote to each stream", async () => {
    const result = await runProcess(["sh", "-c", "echo out; echo err >&2"], { operation });
    expect(result).toEqual({ stdout: "out\n", stderr: "err\n", code: 0 });
  });

  it("gives stdin to the program and closes it", async () => {
    const { stdout } = await runProcess(["cat"], { operation, stdin: Buffer.from("words") });
    expect(stdout).toBe("words");
  });

  it("does not mind a program that leaves its stdin unread", async () => {
    await runProcess(["true"], { operation, stdin: Buffer.alloc(10_000_000) });
  });

  it("hands over lines as they come, also those that end in a carriage return", async () => {
    const lines: string[] = [];
    const script = "printf 'one\\r\\ntwo\\rthree\\nfo'; printf 'ur\\n' >&2; printf our";
    await runProcess(["sh", "-c", script], {
      operation,
      onLine: (source, line) => lines.push(`${source}:${line}`),
    });
    expect(lines.filter((line) => line.startsWith("stdout"))).toEqual([
      "stdout:one",
      "stdout:two",
      "stdout:three",
      "stdout:foour",
    ]);
    expect(lines).toContain("stderr:ur");
  });

  it("fails with the exit code and the end of what was written to stderr", async () => {
    const error = await failure(
      runProcess(["sh", "-c", "echo first >&2; echo why >&2; exit 3"], { operation }),
    );
    expect(error).toMatchObject({
      code: "internal",
      reason: "sh exited with code 3: why",
      log: "first\nwhy",
    });
  });

  it("takes the exit codes it is told to for success", async () => {
    expect((await runProcess(["sh", "-c", "exit 3"], { operation, ok: [0, 3] })).code).toBe(3);
  });

  it("names the Debian package of a program that is not installed", async () => {
    const error = await failure(runProcess(["/nowhere/mkfs.xfs"], { operation }));
    expect(error).toMatchObject({ code: "unsupported", hint: "apt-get install -y xfsprogs" });
  });

  it("says resource_exhausted when the disk is full", async () => {
    const error = await failure(runProcess(["dd", "if=/dev/zero", "of=/dev/full", "count=1"], { operation }));
    expect(error.code).toBe("resource_exhausted");
  });

  it("ends the whole process group when it is aborted", async () => {
    const abort = new AbortController();
    let child: number | undefined;
    // The child ignores SIGTERM and holds stdout, as a badly behaved grandchild would.
    const script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do read -r x < /dev/zero; done'";
    const onLine = (_: string, line: string) => {
      child = Number(line);
      abort.abort();
    };
    const options = { operation, signal: abort.signal, killGraceMs: 50, onLine };
    const error = await failure(runProcess(["sh", "-c", script], options));
    expect(error.code).toBe("cancelled");
    expect(child).toBeGreaterThan(1);
    // It closes its descriptors a moment before it has ended; nothing but the kernel is left to wait for.
    await runProcess(["tail", `--pid=${child}`, "-f", "/dev/null"], { operation, timeoutMs: 10_000 });
    expect(await processStartTicks(child ?? 0)).toBeUndefined();
  });

  it("says deadline_exceeded when the time is up", async () => {
    const error = await failure(runProcess(["sleep", "60"], { operation, timeoutMs: 20 }));
    expect(error.code).toBe("deadline_exceeded");
  });

  it("does not start anything when the signal is aborted already", async () => {
    const error = await failure(runProcess(["sleep", "60"], { operation, signal: AbortSignal.abort() }));
    expect(error).toBeInstanceOf(SporeletError);
    expect(error.code).toBe("cancelled");
  });
});

describe("processStartTicks", () => {
  it("tells processes apart and stays the same for one", async () => {
    const before = await processStartTicks(process.pid);
    await delay(20);
    expect(before).toBeGreaterThan(0);
    expect(await processStartTicks(process.pid)).toBe(before);
    expect(await processStartTicks(1)).not.toBe(before);
  });

  it("is undefined for a process that does not exist", async () => {
    expect(await processStartTicks(0x3fffff)).toBeUndefined();
  });
});
