import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AgentClient, AgentConnection } from "./agent-client.ts";
import { exec, execOutput, startExec } from "./exec.ts";
import { startAgent, type TestAgent } from "./testing/agent.ts";

describe("exec in a guest", () => {
  let agent: TestAgent;
  let connection: AgentConnection;
  let client: AgentClient;
  beforeAll(async () => {
    agent = await startAgent();
    connection = await agent.connect({ env: { FROM_HOST: "hello" } });
    client = connection.client;
  });
  afterAll(async () => {
    await connection.close();
    await agent[Symbol.asyncDispose]();
  });

  const sh = (script: string, more: Partial<Parameters<typeof execOutput>[1]> = {}) =>
    execOutput(client, { argv: ["sh", "-c", script], ...more });
  const textOf = async (output: ReturnType<typeof sh>) => (await output).stdout.toString();

  test("keeps stdout and stderr apart and passes the exit code on", async () => {
    const { code, signal, stdout, stderr } = await sh("echo out; echo err >&2; exit 42");
    expect({ code, signal, stdout: stdout.toString(), stderr: stderr.toString() }).toEqual({
      code: 42,
      signal: 0,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test("reports a signal as shells do", async () => {
    expect(await sh("kill -TERM $$")).toMatchObject({ code: 143, signal: 15 });
  });

  test("ends like a shell when the program cannot be started", async () => {
    const start = async (options: Parameters<typeof execOutput>[1]) => {
      const { code, stderr } = await execOutput(client, options);
      return [code, stderr.toString()];
    };
    expect(await start({ argv: ["no-such-program"] })).toEqual([127, "no-such-program: not found in PATH\n"]);
    expect(await start({ argv: ["/no/such"] })).toEqual([127, "/no/such: no such file or directory\n"]);
    expect(await start({ argv: ["/etc/passwd"] })).toEqual([126, "/etc/passwd: permission denied\n"]);
    expect(await start({ argv: ["true"], workingDirectory: "/nowhere" })).toEqual([
      126,
      "cannot change to directory /nowhere: no such file or directory\n",
    ]);
    expect(await start({ argv: ["true"], user: "nobody-here" })).toEqual([126, "unknown user nobody-here\n"]);
  });

  test("refuses a call without a program", async () => {
    await expect(execOutput(client, { argv: [] })).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("takes environment and working directory, and adds what the host gave all programs", async () => {
    const script = 'echo "$PWD $MINE $FROM_HOST $HOME"';
    expect(await textOf(sh(script, { env: { MINE: "a b" }, workingDirectory: "/usr" }))).toBe(
      "/usr a b hello /root\n",
    );
  });

  test.skipIf(process.getuid?.() !== 0)("runs as another user, by name or number", async () => {
    expect(await textOf(sh("id -un; id -gn; echo $HOME", { user: "daemon" }))).toBe(
      "daemon\ndaemon\n/usr/sbin\n",
    );
    expect(await textOf(sh("id -u; id -g", { user: "4321:1234" }))).toBe("4321\n1234\n");
    expect(await textOf(sh("id -u; id -gn", { user: "nobody:daemon" }))).toBe("65534\ndaemon\n");
  });

  test("has an empty stdin unless one is given", async () => {
    expect(await textOf(sh("wc -c"))).toBe("0\n");
  });

  test("closes stdin at its end, in parts as they come", async () => {
    async function* parts() {
      yield Buffer.from("one ");
      yield Buffer.from("two");
    }
    expect(await textOf(sh("cat", { stdin: parts() }))).toBe("one two");
  });

  test("ends though the program never reads its stdin", async () => {
    expect(await sh("exit 5", { stdin: new Uint8Array(8 << 20) })).toMatchObject({ code: 5 });
  });

  test("says what reading stdin failed with, and kills the program", async () => {
    async function* broken() {
      yield Buffer.from("begin");
      throw new Error("the pipe broke");
    }
    await expect(sh("cat", { stdin: broken() })).rejects.toMatchObject({ reason: "the pipe broke" });
  });

  test("brings 100 MB of binary output over unchanged", async () => {
    const bytes = 100_000_000;
    const received = createHash("sha256");
    let count = 0;
    const sum = `${agent.directory}/sum`;
    await exec(client, {
      argv: ["bash", "-c", `head -c ${bytes} /dev/urandom | tee >(sha256sum > ${sum}) | cat`],
      onStdout: (data) => {
        count += data.length;
        received.update(data);
      },
    });
    expect(count).toBe(bytes);
    // The sum comes from a process that bash does not wait for.
    const expected = await textOf(sh(`while ! [ -s ${sum} ]; do sleep 0.01; done; cut -d' ' -f1 ${sum}`));
    expect(received.digest("hex")).toBe(expected.trim());
  });

  test("takes 20 MB of input unchanged", async () => {
    const input = Buffer.alloc(20_000_000, "sporelet!");
    const sum = createHash("sha256").update(input).digest("hex");
    expect(await textOf(sh("sha256sum", { stdin: input }))).toContain(sum);
  });

  test("makes the program wait for a slow reader", async () => {
    const gate = Promise.withResolvers<void>();
    let taken = 0;
    const progress = `${agent.directory}/progress`;
    const first = Promise.withResolvers<void>();
    const running = exec(client, {
      argv: ["sh", "-c", `head -c 64000000 /dev/zero; echo done > ${progress}`],
      onStdout: (data) => {
        taken += data.length;
        first.resolve();
        return gate.promise;
      },
    });
    await first.promise;
    // Another call on the same connection is not held up by it.
    expect(await textOf(sh(`cat ${progress} 2>/dev/null || echo waiting`))).toBe("waiting\n");
    gate.resolve();
    expect(await running).toMatchObject({ code: 0 });
    expect(taken).toBe(64_000_000);
  });

  test("runs 50 programs at once", async () => {
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => sh(`cat; exit ${i}`, { stdin: Buffer.from(`input ${i}`) })),
    );
    expect(results.map(({ code, stdout }) => [code, stdout.toString()])).toEqual(
      Array.from({ length: 50 }, (_, i) => [i, `input ${i}`]),
    );
  });

  test("does not wait for what a program leaves in the background", async () => {
    const { stdout } = await sh("sleep 1000 & echo $!; exit 0");
    await sh(`kill ${stdout}`);
    expect(stdout.toString()).toMatch(/^\d+\n$/);
  });

  test("sends signals to the whole process group", async () => {
    let group = 0;
    const started = Promise.withResolvers<void>();
    const running = startExec(client, {
      // The one in the background says when it can be ended: a shell forks it with its own traps.
      argv: ["sh", "-c", "trap 'exit 7' USR1; (trap - USR1; echo ready; exec sleep 1000) & wait"],
      onStdout: () => started.resolve(),
      onStarted: (pid) => {
        group = pid;
      },
    });
    await started.promise;
    running.signal(10);
    expect(await running.ended).toEqual({ code: 7, signal: 0 });
    await sh(`while kill -0 -${group} 2>/dev/null; do sleep 0.01; done`);
  });

  test("kills the program when the caller gives up", async () => {
    const given = new AbortController();
    let pid = 0;
    const running = exec(
      client,
      {
        argv: ["sleep", "1000"],
        onStarted: (number) => {
          pid = number;
          given.abort();
        },
      },
      given.signal,
    );
    await expect(running).rejects.toMatchObject({ code: "cancelled" });
    const gone = await sh(`while kill -0 ${pid} 2>/dev/null; do sleep 0.01; done; echo gone`);
    expect(gone.stdout.toString()).toBe("gone\n");
  });

  test("gives a terminal that can be resized and closed", async () => {
    let output = "";
    const seen = Promise.withResolvers<void>();
    const input = Promise.withResolvers<Uint8Array>();
    const running = startExec(client, {
      argv: [
        "sh",
        "-c",
        "tty; stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done",
      ],
      tty: { columns: 91, rows: 17 },
      stdin: (async function* () {
        yield await input.promise;
      })(),
      onStdout: (data) => {
        output += Buffer.from(data).toString();
        if (output.includes("ready")) seen.resolve();
      },
    });
    await seen.promise;
    expect(output).toMatch(/\/dev\/pts\/\d+\r\n17 91\r\n/);
    running.resize({ columns: 132, rows: 50 });
    expect(await running.ended).toMatchObject({ code: 3 });
    expect(output).toContain("50 132\r\n");
  });

  test("ends a terminal's shell when stdin ends", async () => {
    let output = "";
    const { code } = await exec(client, {
      argv: ["sh"],
      tty: { columns: 80, rows: 24 },
      stdin: Buffer.from("echo $((6 * 7))\nexit 4\n"),
      onStdout: (data) => {
        output += Buffer.from(data).toString();
      },
    });
    expect(output).toContain("42\r\n");
    expect(code).toBe(4);
  });

  test("turns Ctrl-C on a terminal into an interrupt", async () => {
    const ready = Promise.withResolvers<void>();
    const { code } = await exec(client, {
      argv: ["sh", "-c", "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done"],
      tty: { columns: 80, rows: 24 },
      stdin: (async function* () {
        await ready.promise;
        yield Uint8Array.of(3);
      })(),
      onStdout: () => ready.resolve(),
    });
    expect(code).toBe(130);
  });
});
