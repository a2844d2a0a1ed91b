import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { SporeletError } from "@sporelet/errors";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { firstContact, helloFrame } from "./agent-client.ts";
import { execOutput } from "./exec.ts";
import { HelloKind, HelloSchema } from "./gen/sporelet/agent/v1/agent_pb.ts";
import { startAgent, type TestAgent } from "./testing/agent.ts";

const identity = {
  hostname: "clone-1",
  machineId: "0123456789abcdef0123456789abcdef",
  generationId: "6f3c1c2e-3f2b-4d0a-9f34-0d6a4f0f3a11",
};

test("a Hello holds the time that the host's clock shows when it is written, set meanwhile or not", () => {
  const expectNow = () => {
    const before = Date.now();
    const hello = fromBinary(HelloSchema, helloFrame({}).subarray(4));
    const ms = Number(hello.wallClockNs / 1000n) / 1000;
    expect(ms).toBeGreaterThanOrEqual(before);
    expect(ms).toBeLessThanOrEqual(Date.now() + 1);
  };
  expectNow();
  // As an NTP client does, or what a host that slept finds.
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_600_000 });
  try {
    expectNow();
  } finally {
    vi.useRealTimers();
  }
});

describe("first contact", () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await startAgent();
  });
  afterAll(() => agent[Symbol.asyncDispose]());

  async function hook(stage: string, name: string, script: string, mode = 0o755): Promise<string> {
    const directory = path.join(agent.root, "etc/sporelet/hooks", stage);
    await mkdir(directory, { recursive: true });
    const file = path.join(directory, name);
    await writeFile(file, `#!/bin/sh\n${script}\n`);
    await chmod(file, mode);
    return file;
  }

  async function resume(options: Parameters<typeof firstContact>[1] & object = {}) {
    const channel = await agent.dial();
    try {
      return await firstContact(channel, { kind: HelloKind.RESUME, ...identity, ...options });
    } finally {
      channel.destroy();
    }
  }

  test("gives the guest the identity that the host chose", async () => {
    const reply = await resume({ network: { dns: ["10.107.0.3"] } });
    expect(reply).toMatchObject({ protocol: 1, bootId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    const read = (file: string) => readFile(path.join(agent.root, file), "utf8");
    expect(await read("etc/hostname")).toBe("clone-1\n");
    expect(await read("etc/hosts")).toContain("127.0.1.1 clone-1\n");
    expect(await read("etc/machine-id")).toBe(`${identity.machineId}\n`);
    expect(await read("run/sporelet/generation-id")).toBe(`${identity.generationId}\n`);
    expect(await read("etc/resolv.conf")).toBe("nameserver 10.107.0.3\n");
  });

  test("runs the hooks in order, executable ones only, and tells them who they are", async () => {
    const log = path.join(agent.directory, "hooks.log");
    const first = await hook(
      "after-resume.d",
      "10-first",
      `echo "first $SPORELET_GENERATION_ID $GREETING" >> ${log}`,
    );
    await hook("after-resume.d", "20-second", `echo "second $SPORELET_HOSTNAME" >> ${log}`);
    await hook("after-resume.d", "15-notes.txt", `echo never >> ${log}`, 0o644);
    await resume({ env: { GREETING: "hi" } });
    expect(await readFile(log, "utf8")).toBe(`first ${identity.generationId} hi\nsecond clone-1\n`);
    await chmod(first, 0o644);
  });

  test("fails with the output of a hook that fails", async () => {
    const file = await hook("after-resume.d", "50-bad", "echo to stdout; echo to stderr >&2; exit 3");
    const failure = await resume().catch((error) => error);
    await chmod(file, 0o644);
    expect(failure).toBeInstanceOf(SporeletError);
    expect(failure).toMatchObject({ code: "guest_failed", log: "to stdout\nto stderr\n" });
    expect(failure.reason).toContain("50-bad exited with code 3");
  });

  test("ends a hook that overruns its limit, and what that started", async () => {
    const pids = path.join(agent.directory, "pids");
    const file = await hook("after-resume.d", "60-slow", `echo begun; sleep 1000 & echo $! > ${pids}; wait`);
    const failure = await resume({ hookTimeoutMs: 3000 }).catch((error) => error);
    await chmod(file, 0o644);
    expect(failure).toMatchObject({ code: "guest_failed", log: "begun\n" });
    expect(failure.reason).toContain("ran longer than 3s");
    const pid = Number(await readFile(pids, "utf8"));
    // It was sent SIGKILL; a busy host lets it end a moment later.
    await vi.waitFor(async () =>
      expect(await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "gone")).toMatch(/gone|\) [ZX] /),
    );
  });

  test("does not let a guest that failed to become unique be used", async () => {
    const file = await hook("after-resume.d", "70-bad", "exit 1");
    await resume().catch(() => {});
    await chmod(file, 0o644);
    await expect(resume({ kind: HelloKind.RECONNECT })).rejects.toMatchObject({ code: "guest_failed" });
    await expect(resume()).resolves.toMatchObject({ protocol: 1 });
  });

  test.for([
    ["a protocol that the agent does not speak", { protocol: 99 }, "incompatible", "protocol"],
    ["too little entropy", { entropy: new Uint8Array(8) }, "guest_failed", "entropy"],
    ["a malformed machine id", { machineId: "ABC" }, "guest_failed", "identity"],
    ["a host name with a line break", { hostname: "a\nb" }, "guest_failed", "identity"],
    ["no generation id", { generationId: "" }, "guest_failed", "identity"],
  ] as const)("refuses %s", async ([, hello, code, reason]) => {
    const failure = await resume(hello).catch((error) => error);
    expect(failure).toMatchObject({ code, reason: expect.stringContaining(reason) });
    await resume();
  });

  test("gives up when the agent does not answer in time, or the caller loses patience", async () => {
    const channel = await agent.dial();
    await expect(firstContact(channel, "sent", { timeoutMs: 50 })).rejects.toMatchObject({
      code: "deadline_exceeded",
    });
    await expect(firstContact(channel, "sent", { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "cancelled",
    });
    channel.destroy();
  });

  test("serves the next host when one vanishes in the middle of its greeting", async () => {
    const channel = await agent.dial();
    channel.write(Uint8Array.of(0, 0, 1, 0, 42));
    channel.destroy();
    await using connection = await agent.connect();
    expect((await execOutput(connection.client, { argv: ["echo", "here"] })).stdout.toString()).toBe(
      "here\n",
    );
  });

  test("takes a host back that names the generation", async () => {
    await resume();
    await using connection = await agent.connect({
      kind: HelloKind.RECONNECT,
      generationId: identity.generationId,
    });
    expect((await connection.client.facts({})).generationId).toBe(identity.generationId);
  });
});

describe("a connection", () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await startAgent();
  });
  afterAll(() => agent[Symbol.asyncDispose]());

  test("fails its calls when it is closed, and the agent kills what they ran", async () => {
    const connection = await agent.connect();
    let pid = 0;
    const started = Promise.withResolvers<void>();
    const running = execOutput(connection.client, {
      argv: ["sleep", "1000"],
      onStarted: (number) => {
        pid = number;
        started.resolve();
      },
    });
    await started.promise;
    const [failure] = await Promise.all([running.catch((error) => error), connection.close()]);
    expect(failure).toBeInstanceOf(SporeletError);
    // The agent takes a new host only after it has ended the calls of the last.
    await using next = await agent.connect();
    const { code } = await execOutput(next.client, { argv: ["sh", "-c", `kill -0 ${pid}`] });
    expect(code).not.toBe(0);
  });

  test("tells when the agent goes away", async () => {
    await using other = await startAgent();
    const connection = await other.connect();
    other.process.kill("SIGKILL");
    await connection.closed;
    await expect(execOutput(connection.client, { argv: ["true"] })).rejects.toMatchObject({
      code: "unavailable",
    });
    await connection.close();
  });

  test("runs the before-freeze hooks in reverse order when it quiesces", async () => {
    const directory = path.join(agent.root, "etc/sporelet/hooks/before-freeze.d");
    const log = path.join(agent.directory, "freeze.log");
    await mkdir(directory, { recursive: true });
    for (const name of ["10-a", "20-b"]) {
      await writeFile(path.join(directory, name), `#!/bin/sh\necho ${name} >> ${log}\n`, { mode: 0o755 });
    }
    await using connection = await agent.connect();
    const reply = await connection.client.quiesce({ dropCaches: true, trim: true });
    expect(reply.error).toBeUndefined();
    expect(await readFile(log, "utf8")).toBe("20-b\n10-a\n");
    await connection.close();
    // What quiesce prepared is used by the resume that follows.
    const channel = await agent.dial();
    await firstContact(channel, { kind: HelloKind.RESUME, ...identity, hostname: "another" });
    expect(await readFile(path.join(agent.root, "etc/hostname"), "utf8")).toBe("another\n");
    channel.destroy();
  });

  test("says which hook refused the freeze", async () => {
    const file = path.join(agent.root, "etc/sporelet/hooks/before-freeze.d/30-no");
    await writeFile(file, "#!/bin/sh\necho not now\nexit 9\n", { mode: 0o755 });
    await using connection = await agent.connect();
    const { error } = await connection.client.quiesce({});
    await chmod(file, 0o644);
    expect(error).toMatchObject({ code: "hook_failed", hook: file, output: "not now\n" });
  });
});
