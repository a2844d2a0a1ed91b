import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { AgentClient, AgentConnection } from "./agent-client.ts";
import { startAgent, type TestAgent } from "./testing/agent.ts";

let agent: TestAgent;
let connection: AgentConnection;
let client: AgentClient;
let place: string;
let count = 0;

beforeAll(async () => {
  agent = await startAgent();
  connection = await agent.connect();
  client = connection.client;
});
afterAll(async () => {
  await connection.close();
  await agent[Symbol.asyncDispose]();
});
beforeEach(() => {
  place = path.join(agent.directory, `test-${count++}`);
  mkdirSync(place);
});

const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

async function collect(chunks: AsyncIterable<{ data: Uint8Array }>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const { data } of chunks) parts.push(data);
  return Buffer.concat(parts);
}

async function* begunRequests(
  start: { path: string; mode?: number; makeParents?: boolean },
  ...parts: Uint8Array[]
) {
  yield { request: { case: "start" as const, value: { ...owner, ...start } } };
  for (const data of parts) yield { request: { case: "data" as const, value: data } };
}

async function* writeRequests(...what: Parameters<typeof begunRequests>) {
  yield* begunRequests(...what);
  yield { request: { case: "end" as const, value: {} } };
}

async function* tarRequests(directory: string, tar: Uint8Array) {
  yield { request: { case: "start" as const, value: { directory } } };
  for (let at = 0; at < tar.length; at += 1 << 16) {
    yield { request: { case: "data" as const, value: tar.subarray(at, at + (1 << 16)) } };
  }
}

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => "succeeded",
    (error) => Code[ConnectError.from(error).code],
  );

describe("files of a guest", () => {
  test("are written whole, with mode and parents, and read back", async () => {
    const file = path.join(place, "a/b/file");
    const content = Buffer.alloc(1_000_000, "content ");
    const info = await client.writeFile(
      writeRequests(
        { path: file, mode: 0o4750, makeParents: true },
        content.subarray(0, 70_000),
        content.subarray(70_000),
      ),
    );
    expect(info).toMatchObject({ path: file, size: 1_000_000n, mode: 0o104750 });
    expect(await collect(client.readFile({ path: file }))).toEqual(content);
    expect((await collect(client.readFile({ path: file, offset: 5n, length: 10n }))).toString()).toBe(
      "nt content",
    );
  });

  test("stay as they were when the host gives up in the middle", async () => {
    const file = path.join(place, "file");
    writeFileSync(file, "old");
    async function* broken() {
      yield* begunRequests({ path: file }, Buffer.from("new"));
      throw new Error("the host lost its own file");
    }
    await expect(client.writeFile(broken())).rejects.toThrow();
    // The agent has cleaned up when another call, begun later, is through.
    expect(await codeOf(client.remove({ path: path.join(place, "nothing") }))).toBe("NotFound");
    expect(readFileSync(file, "utf8")).toBe("old");
    expect(await codeOf(client.writeFile(begunRequests({ path: file }, Buffer.from("new"))))).toBe("Aborted");
    expect(readFileSync(file, "utf8")).toBe("old");
    expect(readdirSync(place)).toEqual(["file"]);
  });

  test("are listed and described, links as links", async () => {
    writeFileSync(path.join(place, "file"), "four");
    symlinkSync("file", path.join(place, "link"));
    const listed = [];
    for await (const info of client.list({ path: place }))
      listed.push([path.basename(info.path), info.linkTarget]);
    expect(listed).toEqual([
      ["file", ""],
      ["link", "file"],
    ]);
    expect(await client.stat({ path: path.join(place, "link") })).toMatchObject({ linkTarget: "file" });
    expect(await client.stat({ path: path.join(place, "link"), followSymlinks: true })).toMatchObject({
      size: 4n,
    });
  });

  test("are removed, trees only when asked", async () => {
    mkdirSync(path.join(place, "tree/deep"), { recursive: true });
    const tree = path.join(place, "tree");
    expect(await codeOf(client.remove({ path: tree }))).toBe("FailedPrecondition");
    await client.remove({ path: tree, recursive: true });
    expect(readdirSync(place)).toEqual([]);
    expect(await codeOf(client.remove({ path: "/", recursive: true }))).toBe("InvalidArgument");
  });

  test("that are not there, or are directories, give errors that say so", async () => {
    const missing = path.join(place, "missing");
    expect(await codeOf(client.stat({ path: missing }))).toBe("NotFound");
    expect(await codeOf(collect(client.readFile({ path: missing })))).toBe("NotFound");
    expect(await codeOf(collect(client.readFile({ path: place })))).toBe("FailedPrecondition");
    expect(await codeOf(collect(client.readTar({ path: missing })))).toBe("NotFound");
    expect(await codeOf(client.writeFile(writeRequests({ path: place })))).toBe("FailedPrecondition");
    await expect(client.stat({ path: missing })).rejects.toThrow(`${missing}: no such file or directory`);
  });
});

describe("tars of a guest", () => {
  test("bring a tree over with modes, times, links and owners", async () => {
    const source = path.join(place, "source");
    execFileSync("sh", [
      "-ec",
      `mkdir -p ${source}/sub; cd ${source}; head -c 300000 /dev/urandom > big; echo x > sub/run; chmod 4751 sub/run
       ln sub/run hard; ln -s ../outside soft; mkfifo fifo; touch -d 2001-02-03T04:05:06.789Z sub/run sub
       chmod 1700 sub; [ $(id -u) != 0 ] || chown -h 123:456 soft sub/run`,
    ]);
    const tar = await collect(client.readTar({ path: source }));
    await client.writeTar(tarRequests(path.join(place, "target"), tar));
    const look = (directory: string) =>
      execFileSync("sh", [
        "-ec",
        `cd ${directory}; find . -printf '%p %y %m %U %G %l %n\\n' | sort; find . -type f -o -name sub | sort | xargs stat -c '%n %y'; sha256sum big hard`,
      ]).toString();
    expect(look(path.join(place, "target/source"))).toBe(look(source));
  });

  test("are what tar understands, and understand what tar makes", async () => {
    writeFileSync(path.join(place, "file"), "hello");
    const tar = await collect(client.readTar({ path: path.join(place, "file") }));
    expect(execFileSync("tar", ["-xO", "file"], { input: tar }).toString()).toBe("hello");
    const made = execFileSync("tar", ["-c", "--format=gnu", "-C", place, "file"]);
    await client.writeTar(tarRequests(path.join(place, "new"), made));
    expect(readFileSync(path.join(place, "new/file"), "utf8")).toBe("hello");
  });

  test("replace files, and go into directories that exist", async () => {
    const from = path.join(place, "from");
    const to = path.join(place, "to");
    mkdirSync(path.join(from, "d"), { recursive: true });
    writeFileSync(path.join(from, "d/f"), "new");
    mkdirSync(path.join(to, "real"), { recursive: true });
    writeFileSync(path.join(to, "real/f"), "old");
    symlinkSync("real", path.join(to, "d"));
    await client.writeTar(tarRequests(to, execFileSync("tar", ["-c", "-C", from, "d"])));
    expect(readFileSync(path.join(to, "real/f"), "utf8")).toBe("new");
    expect(lstatSync(path.join(to, "d")).isSymbolicLink()).toBe(true);
  });

  test.for([
    ["climbs with ..", ["--transform=s,^,../,", "file"]],
    ["is absolute", ["--transform=s,^,/tmp/sporelet-absolute-,", "file"]],
    ["is a hard link to the outside", ["--transform=flags=h;s,^,../../,", "file", "hard"]],
  ] as const)("are refused when an entry %s", async ([, how]) => {
    execFileSync("sh", ["-ec", `cd ${place}; mkdir box; echo x > file; ln file hard`]);
    const tar = execFileSync("tar", ["-cP", "-C", place, ...how]);
    const call = client.writeTar(tarRequests(path.join(place, "box/inner"), tar));
    expect(await codeOf(call)).toBe("InvalidArgument");
    await expect(call).rejects.toThrow("would leave the directory");
    expect(readdirSync(path.join(place, "box"))).toEqual(["inner"]);
  });

  test("are refused when they write through a link of theirs to the outside", async () => {
    mkdirSync(path.join(place, "outside"));
    for (const target of [path.join(place, "outside"), "../outside"]) {
      execFileSync("sh", [
        "-ec",
        `cd ${place}; rm -rf in1 in2; mkdir in1 in2 in2/link; ln -s ${target} in1/link; echo x > in2/link/f`,
      ]);
      const first = execFileSync("tar", ["-c", "-C", path.join(place, "in1"), "link"]);
      // Without the end-of-archive blocks the second goes on where the first ended.
      const second = execFileSync("tar", ["-c", "-C", path.join(place, "in2"), "link/f"]);
      const tar = Buffer.concat([first.subarray(0, 512), second]);
      expect(await codeOf(client.writeTar(tarRequests(path.join(place, "target"), tar)))).toBe(
        "InvalidArgument",
      );
    }
    expect(readdirSync(path.join(place, "outside"))).toEqual([]);
  });

  test("that are cut off or are none are refused", async () => {
    writeFileSync(path.join(place, "file"), "x".repeat(10_000));
    const tar = execFileSync("tar", ["-c", "-C", place, "file"]);
    const unpack = (bytes: Uint8Array) => codeOf(client.writeTar(tarRequests(path.join(place, "t"), bytes)));
    expect(await unpack(tar.subarray(0, 5000))).toBe("InvalidArgument");
    expect(await unpack(tar.subarray(0, 512 + 10_240))).toBe("InvalidArgument");
    expect(await unpack(Buffer.alloc(2048, "no tar at all"))).toBe("InvalidArgument");
  });
});

describe("ports of a guest", () => {
  test("are joined to a call, both ends closing on their own", async () => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const parts: Buffer[] = [];
      socket
        .on("data", (part) => parts.push(part))
        .on("end", () => socket.end(Buffer.concat(parts).reverse()));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    async function* requests() {
      yield { request: { case: "start" as const, value: { port } } };
      yield { request: { case: "data" as const, value: Buffer.from("stres") } };
      yield { request: { case: "data" as const, value: Buffer.from("sed") } };
    }
    expect((await collect(client.forward(requests()))).toString()).toBe("desserts");
    server.close();
  });

  test("on which nothing listens are unavailable", async () => {
    async function* requests() {
      yield { request: { case: "start" as const, value: { port: 1 } } };
    }
    const call = collect(client.forward(requests()));
    expect(await codeOf(call)).toBe("Unavailable");
    await expect(call).rejects.toThrow("127.0.0.1:1: connection refused");
  });
});

describe("facts, services and logs of a guest", () => {
  test("tell what it is and how it is doing", async () => {
    const facts = await client.facts({});
    expect(facts.memoryTotalBytes).toBeGreaterThan(facts.memoryAvailableBytes);
    expect(facts).toMatchObject({ kernel: expect.stringMatching(/^\d+\.\d+/), agentVersion: "0.1.0" });
  });

  test("bring services up in order, and tell how they are", async () => {
    await using other = await startAgent();
    const log = path.join(other.directory, "order");
    const socket = path.join(other.directory, "late/ready.sock");
    const services = [
      { name: "last", argv: ["sh", "-c", `echo last >> ${log}`], oneshot: true, after: ["server"] },
      {
        name: "server",
        argv: [
          process.execPath,
          "-e",
          `fs=require('fs');fs.mkdirSync(${JSON.stringify(path.dirname(socket))});require('net').createServer(()=>{}).listen(${JSON.stringify(socket)});fs.appendFileSync('${log}','server\\n')`,
        ],
        ready: { socket },
        restart: "always",
        after: ["first"],
      },
      { name: "first", argv: ["sh", "-c", `sleep 0.1; echo first | tee -a ${log}`], oneshot: true },
      { name: "bad", argv: ["sh", "-c", "exit 3"], oneshot: true },
      { name: "never", argv: ["true"], after: ["bad"] },
    ];
    mkdirSync(path.join(other.root, "etc/sporelet"), { recursive: true });
    writeFileSync(path.join(other.root, "etc/sporelet/agent.json"), JSON.stringify({ services }));
    await using link = await other.connect();
    let text = "";
    for await (const { data } of link.client.logs({ follow: true })) {
      text += Buffer.from(data).toString();
      if (text.includes("service last ended")) break;
    }
    expect(readFileSync(log, "utf8")).toBe("first\nserver\nlast\n");
    const status = await link.client.services({});
    expect(status.services.map(({ name, state, exitCode }) => [name, state, exitCode])).toEqual([
      ["last", "exited", 0],
      ["server", "running", 0],
      ["first", "exited", 0],
      ["bad", "failed", 3],
      ["never", "failed", 0],
    ]);
    expect(readFileSync(path.join(other.root, "var/log/sporelet/first.log"), "utf8")).toBe("first\n");
    const pid = status.services.find(({ name }) => name === "server")?.pid ?? 0;
    expect(pid).toBeGreaterThan(0);
    await link.client.shutdown({ timeoutMs: 5000 }).catch(() => {});
    await link.closed;
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });
});
