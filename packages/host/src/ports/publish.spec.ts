import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { describe, expect, it, type TestContext } from "vitest";
import { type TestNetns, testNetns, whyNoNetns } from "../testing/index.ts";
import { listenerOf } from "./listener.ts";
import { type PortTarget, type PublishedPort, publishPort } from "./publish.ts";

/** A published port of a server in a namespace of its own, and connections to it. */
async function withGuest(
  ctx: TestContext,
  onConnection: (guest: Socket) => void,
  run: (open: () => Socket, port: PublishedPort, netns: TestNetns) => Promise<void>,
): Promise<void> {
  const reason = whyNoNetns();
  if (reason) ctx.skip(reason);
  await using netns = await testNetns();
  await using _server = await netns.listen(8080, onConnection);
  const target = { netns: netns.netns, address: "127.0.0.1", port: 8080 };
  await using port = await publishPort({ hostAddress: "127.0.0.1", hostPort: 0, target });
  const open = () => connect({ host: "127.0.0.1", port: port.hostPort, allowHalfOpen: true });
  await run(open, port, netns);
}

/** All that a socket receives; its other half stays as it is. */
const buffer = async (socket: Socket): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  await once(socket, "end");
  return Buffer.concat(chunks);
};

const failureOf = async (socket: Socket): Promise<string | undefined> => {
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  return error.code;
};

describe("a published port", () => {
  it("passes bytes both ways, unchanged", (ctx) =>
    withGuest(
      ctx,
      (guest) => guest.pipe(guest),
      async (open) => {
        const sent = randomBytes(8 * 1024 * 1024);
        const client = open();
        client.end(sent);
        expect(Buffer.compare(await buffer(client), sent)).toBe(0);
      },
    ));

  it("passes on that one side has finished while the other goes on", (ctx) =>
    withGuest(
      ctx,
      (guest) => {
        guest.end("before you");
        guest.on("data", () => {});
        guest.once("end", () => guest.emit("heard"));
      },
      async (open) => {
        const client = open();
        expect(String(await buffer(client))).toBe("before you");
        // The guest has ended its half; ours still works.
        client.write("after you");
        client.end();
        await once(client, "close");
        expect(client.errored).toBeNull();
      },
    ));

  it("answers after the client has finished, as HTTP/1.0 servers do", (ctx) =>
    withGuest(
      ctx,
      (guest) => void buffer(guest).then((request) => guest.end(`got ${request}`)),
      async (open) => {
        const client = open();
        client.end("everything");
        expect(String(await buffer(client))).toBe("got everything");
      },
    ));

  it("resets the client when the guest refuses", async (ctx) => {
    const reason = whyNoNetns();
    if (reason) ctx.skip(reason);
    await using netns = await testNetns();
    const target = { netns: netns.netns, address: "127.0.0.1", port: 9 };
    await using port = await publishPort({ hostAddress: "127.0.0.1", hostPort: 0, target });
    expect(await failureOf(connect(port.hostPort, "127.0.0.1"))).toBe("ECONNRESET");
  });

  it("resets the client when the guest does not answer in time", async (ctx) => {
    const reason = whyNoNetns();
    if (reason) ctx.skip(reason);
    await using netns = await testNetns();
    // Frames for a station that is not there.
    await netns.ip(
      "link add void type veth peer name drain",
      "addr add 10.9.9.1/24 dev void",
      "link set void up",
      "link set drain up",
      "neigh add 10.9.9.2 lladdr 02:00:00:00:00:01 dev void",
    );
    const target = { netns: netns.netns, address: "10.9.9.2", port: 80 };
    const options = { hostAddress: "127.0.0.1", hostPort: 0, target, connectTimeoutMs: 50 };
    await using port = await publishPort(options);
    expect(await failureOf(connect(port.hostPort, "127.0.0.1"))).toBe("ECONNRESET");
  });

  it("passes on a reset by the guest", (ctx) =>
    withGuest(
      ctx,
      (guest) => guest.once("data", () => guest.resetAndDestroy()),
      async (open) => {
        const client = open();
        client.write("hello");
        expect(await failureOf(client)).toBe("ECONNRESET");
      },
    ));

  it("passes on a reset by the client", async (ctx) => {
    const failed = Promise.withResolvers<string | undefined>();
    await withGuest(
      ctx,
      (guest) => {
        guest.write("hello");
        failureOf(guest).then(failed.resolve, failed.reject);
      },
      async (open) => {
        const client = open();
        await once(client, "data");
        client.resetAndDestroy();
        expect(await failed.promise).toBe("ECONNRESET");
      },
    );
  });

  it("slows a fast writer down to a slow reader, and loses nothing", async (ctx) => {
    const size = 64 * 1024 * 1024;
    const slow = Promise.withResolvers<Socket>();
    await withGuest(
      ctx,
      (guest) => {
        guest.once("data", (first) => {
          guest.pause();
          if (first.toString("latin1") === "ping") guest.end("pong");
          else {
            guest.unshift(first);
            slow.resolve(guest);
          }
        });
      },
      async (open) => {
        const client = open();
        client.end(Buffer.alloc(size, "x"));
        const guest = await slow.promise;
        // The proxy serves others meanwhile, and has not swallowed what the reader did not take.
        const other = open();
        other.write("ping");
        expect(String(await buffer(other))).toBe("pong");
        other.end();
        expect(client.writableLength).toBeGreaterThan(0);
        let received = 0;
        guest.on("data", (chunk) => {
          received += chunk.length;
        });
        guest.resume();
        await once(guest, "end");
        guest.end();
        expect(received).toBe(size);
      },
    );
  });

  it("carries hundreds of connections at once", (ctx) =>
    withGuest(
      ctx,
      (guest) => guest.pipe(guest),
      async (open) => {
        const talk = async (i: number) => {
          const client = open();
          client.end(`connection ${i}`);
          return String(await buffer(client));
        };
        const answers = await Promise.all(Array.from({ length: 300 }, (_, i) => talk(i)));
        expect(answers).toEqual(answers.map((_, i) => `connection ${i}`));
      },
    ));

  it("ends its connections and gives the port back when it is closed", (ctx) =>
    withGuest(
      ctx,
      (guest) => guest.on("error", () => {}).write("hello"),
      async (open, port) => {
        const client = open();
        await once(client, "data");
        const ended = once(client, "close");
        client.on("error", () => {});
        client.on("end", () => client.end());
        await port.close();
        await ended;
        expect(await failureOf(open())).toBe("ECONNREFUSED");
      },
    ));

  it("works without a namespace too, for guests behind a user-mode network", async () => {
    const server = createServer((socket) => socket.end("here")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    {
      const target = { address: "127.0.0.1", port };
      await using published = await publishPort({ hostAddress: "127.0.0.1", hostPort: 0, target });
      expect(String(await buffer(connect(published.hostPort, "127.0.0.1")))).toBe("here");
    }
    server.close();
  });
});

describe("a published port without a target", () => {
  /** A port that goes nowhere yet, and a server of this host that it may be pointed to. */
  async function withHeld(
    run: (parts: {
      open: () => Socket;
      port: PublishedPort;
      target: PortTarget;
      over: () => number;
    }) => Promise<void>,
  ): Promise<void> {
    const server = createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const target = { address: "127.0.0.1", port: (server.address() as { port: number }).port };
    let over = 0;
    const onConnection = () => ({ [Symbol.dispose]: () => void over++ });
    {
      await using port = await publishPort({ hostAddress: "127.0.0.1", hostPort: 0, onConnection });
      await run({ open: () => connect(port.hostPort, "127.0.0.1"), port, target, over: () => over });
    }
    server.close();
  }
  const heldBy = async (port: PublishedPort, count: number) => {
    while (port.held < count) await new Promise((resolve) => setImmediate(resolve));
  };

  it("holds connections until there is one, and loses nothing of what they sent", () =>
    withHeld(async ({ open, port, target, over }) => {
      const clients = Array.from({ length: 20 }, open);
      for (const [i, client] of clients.entries()) client.end(`early ${i}`);
      await heldBy(port, clients.length);
      const answers = Promise.all(clients.map(buffer));
      port.point(target);
      expect(port.held).toBe(0);
      expect((await answers).map(String)).toEqual(clients.map((_, i) => `early ${i}`));
      while (over() < clients.length) await new Promise((resolve) => setImmediate(resolve));
    }));

  it("holds those that come after the target went away, and lets those before it go on", () =>
    withHeld(async ({ open, port, target }) => {
      port.point(target);
      const before = open();
      before.write("one");
      expect(String((await once(before, "data"))[0])).toBe("one");
      port.hold();
      const after = open();
      after.write("two");
      await heldBy(port, 1);
      before.write("three");
      expect(String((await once(before, "data"))[0])).toBe("three");
      const cut = once(before, "close");
      port.cut();
      await cut;
      const answer = once(after, "data");
      port.point(target);
      expect(String((await answer)[0])).toBe("two");
      after.destroy();
    }));

  it("resets those that are held when there will be none", () =>
    withHeld(async ({ open, port }) => {
      const client = open();
      await heldBy(port, 1);
      const failure = failureOf(client);
      port.refuse();
      expect(await failure).toBe("ECONNRESET");
    }));

  it("does not mind clients that have gone when there is one", () =>
    withHeld(async ({ open, port, target }) => {
      const gone = open();
      await heldBy(port, 1);
      gone.resetAndDestroy();
      port.point(target);
      const client = open();
      client.end("here");
      expect(String(await buffer(client))).toBe("here");
    }));
});

describe("a port that cannot be published", () => {
  const target = { address: "127.0.0.1", port: 1 };

  it("because another process listens on it is an error that names the process", async () => {
    const script =
      "const s = require('net').createServer().listen(0, '127.0.0.1', () => console.log(s.address().port))";
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const [line] = (await once(createInterface(child.stdout), "line")) as [string];
      const publishing = publishPort({ hostAddress: "127.0.0.1", hostPort: Number(line), target });
      await expect(publishing).rejects.toMatchObject({
        code: "already_exists",
        subject: `127.0.0.1:${line}`,
        reason: expect.stringContaining(`(pid ${child.pid})`),
      });
    } finally {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
  });

  it("because the address is not this host's is a wrong argument", async () => {
    const publishing = publishPort({ hostAddress: "192.0.2.77", hostPort: 0, target });
    await expect(publishing).rejects.toMatchObject({ code: "invalid_argument" });
  });

  it("because the namespace is gone is not found", async () => {
    const gone = { ...target, netns: "/run/netns/sporetest-none" };
    const publishing = publishPort({ hostAddress: "127.0.0.1", hostPort: 0, target: gone });
    await expect(publishing).rejects.toMatchObject({ code: "not_found" });
  });

  it("nobody listens on a free port", async () => {
    expect(await listenerOf(1)).toBeUndefined();
  });
});
