import { randomBytes } from "node:crypto";
import { PassThrough, Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type FakeNode, startFakeNode } from "../testing/fake-node.ts";
import { runForTest } from "../testing/run.ts";
import { startCli } from "../testing/spawn.ts";
import { createPrefixer } from "./prefix.ts";
import { createExecRequests, type ExecRequestInit } from "./requests.ts";

let node: FakeNode;
beforeAll(async () => {
  node = await startFakeNode();
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
});

const exec = (args: string[], options: Partial<Parameters<typeof runForTest>[1]> = {}) =>
  runForTest(["exec", ...args], { home: node.home, ...options });

describe("sporectl exec", () => {
  it("passes binary standard input and output through unharmed", async () => {
    const data = randomBytes(5_000_000);
    const result = await exec(["-i", "hello-1", "cat"], { stdin: data });
    expect(result.code).toBe(0);
    expect(result.stdout.equals(data)).toBe(true);
  });

  it("closes the program's standard input at the end of its own, and gives it none without -i", async () => {
    expect(
      (await exec(["-i", "hello-1", "wc", "-c"], { stdin: Buffer.from("four") })).stdout.toString().trim(),
    ).toBe("4");
    expect(
      (await exec(["hello-1", "wc", "-c"], { stdin: Buffer.from("four") })).stdout.toString().trim(),
    ).toBe("0");
  });

  it("ends although standard input goes on", async () => {
    const endless = new Readable({ read() {} });
    expect((await exec(["-i", "hello-1", "true"], { stdin: endless })).code).toBe(0);
    expect(endless.destroyed).toBe(false);
  });

  it.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const)(
    "hands %s on to the program",
    async (name) => {
      const script = `trap 'echo got it; exit 9' ${name.slice(3)}; echo up; while :; do sleep 0.05; done`;
      let sent = false;
      const result = await exec(["hello-1", "sh", "-c", script], {
        onOutput: ({ signals, stdout }) => {
          if (!sent && stdout.includes("up")) sent = signals.emit(name, name);
        },
      });
      expect(result.stdout.toString()).toContain("got it");
      expect(result.code).toBe(9);
    },
  );

  it("is ended by the third SIGINT, whatever the program makes of them", async () => {
    const result = await exec(
      ["hello-1", "sh", "-c", "trap 'echo no' INT; echo up; while :; do sleep 0.05; done"],
      {
        onOutput: ({ signals, stderr }) => stderr === "" && signals.emit("SIGINT", "SIGINT"),
      },
    );
    expect(result).toMatchObject({ code: 130, stderr: "cancelled\n" });
  });

  it("runs fifty at once, each with its own output", async () => {
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, i) => exec(["hello-1", "echo", String(i)])),
    );
    expect(results.map(({ stdout }) => stdout.toString())).toEqual(
      Array.from({ length: 50 }, (_, i) => `${i}\n`),
    );
  });
});

describe("sporectl as a process", () => {
  it("ends quietly when nobody reads its output any more", async () => {
    const cli = startCli(node.home, ["exec", "hello-1", "yes"]);
    cli.child.stdout.once("data", () => cli.child.stdout.destroy());
    expect(await cli.ended).toMatchObject({ code: 141, stderr: "" });
  });

  it("holds the program back while its output is not read", async () => {
    const cli = startCli(node.home, [
      "exec",
      "hello-1",
      "sh",
      "-c",
      "head -c 30000000 /dev/zero; echo done >&2",
    ]);
    await new Promise((resolve) => cli.child.stdout.once("readable", resolve));
    expect(cli.stderr()).toBe("");
    let bytes = 0;
    cli.child.stdout.on("data", (data: Buffer) => {
      bytes += data.length;
    });
    expect(await cli.ended).toMatchObject({ code: 0, stderr: "done\n" });
    expect(bytes).toBe(30_000_000);
  });

  it("hands a real SIGTERM on, and reports how the program ended", async () => {
    const cli = startCli(node.home, ["exec", "hello-1", "sh", "-c", "echo up; exec sleep 600"]);
    await new Promise((resolve) => cli.child.stdout.once("data", resolve));
    cli.child.kill("SIGTERM");
    expect(await cli.ended).toMatchObject({ code: 143 });
  });

  it("leaves what it did not read of standard input to the next one", async () => {
    const { stdout } = await startCli(node.home, [], {
      shell: '{ "$0" "$1" exec hello-1 true; cat; }',
      input: "for the next",
    }).ended;
    expect(stdout).toBe("for the next");
  });
});

describe("the requests of an exec", () => {
  const start: ExecRequestInit = { request: { case: "start", value: { argv: ["x"] } } };
  const cases = async (requests: AsyncIterable<ExecRequestInit>) => {
    const seen: unknown[] = [];
    for await (const { request } of requests)
      seen.push(request?.case === "stdin" ? request.value?.length : request?.case);
    return seen;
  };

  it("send standard input in pieces, and its end once", async () => {
    const requests = createExecRequests(start, Readable.from([Buffer.alloc(150_000), Buffer.alloc(1)]));
    const seen: unknown[] = [];
    for await (const { request } of requests) {
      seen.push(request?.case === "stdin" ? request.value?.length : request?.case);
      if (request?.case === "closeStdin") requests.end();
    }
    expect(seen).toEqual(["start", 65_536, 65_536, 18_928, 1, "closeStdin"]);
  });

  it("let a signal overtake standard input that does not come", async () => {
    const requests = createExecRequests(start, new PassThrough());
    requests.send({ request: { case: "signal", value: 15 } });
    const seen = cases(requests);
    requests.send({ request: { case: "resize", value: { columns: 1, rows: 1 } } });
    setImmediate(() => requests.end());
    expect(await seen).toEqual(["start", "signal", "resize"]);
  });
});

describe("lines with a head", () => {
  it("are whole, however they arrive", async () => {
    const stream = new PassThrough();
    const prefixer = createPrefixer(stream, "a | ");
    for (const part of ["o", "ne\ntw", "o\n\nth", "ree"]) await prefixer.write(Buffer.from(part));
    await prefixer.end();
    expect(stream.read().toString()).toBe("a | one\na | two\na | \na | three\n");
  });
});
