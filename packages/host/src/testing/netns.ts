import { randomBytes } from "node:crypto";
import { createServer, type Server, Socket } from "node:net";
import { inNetns, openNetns } from "../network/netns.ts";
import { canUseNetns } from "../network/pool.ts";
import { runProcess } from "../process.ts";

/** Why tests cannot make network namespaces here; undefined when they can. */
export function whyNoNetns(): string | undefined {
  return canUseNetns() ? undefined : "network namespaces need root";
}

export interface TestNetns extends AsyncDisposable {
  name: string;
  /** Path. */
  netns: string;
  /** Runs lines of ip-batch in it. */
  ip(...lines: string[]): Promise<void>;
  nft(rules: string): Promise<void>;
  /** A TCP server on a port of all its addresses. */
  listen(port: number, onConnection: (socket: Socket) => void): Promise<Server & AsyncDisposable>;
  /** A connection that begins in it. */
  connect(address: string, port: number): Socket;
}

/** A network namespace, with its loopback device up, that is removed when it goes out of scope. */
export async function testNetns(): Promise<TestNetns> {
  const name = `sporetest-${randomBytes(4).toString("hex")}`;
  const netns = `/run/netns/${name}`;
  const operation = "prepare a network for a test";
  const ip = async (...lines: string[]) => {
    await runProcess(["ip", "-n", name, "-batch", "-"], {
      operation,
      stdin: Buffer.from(`${lines.join("\n")}\n`),
    });
  };
  await runProcess(["ip", "netns", "add", name], { operation });
  await ip("link set lo up");
  return {
    name,
    netns,
    ip,
    async nft(rules) {
      await runProcess(["nft", "-f", "-"], { operation, netns, stdin: Buffer.from(rules) });
    },
    async listen(port, onConnection) {
      const server = createServer({ allowHalfOpen: true }, onConnection);
      const listening = new Promise((resolve, reject) => {
        server.once("error", reject);
        server.once("listening", resolve);
      });
      // Without a host name the socket is made before `listen` returns.
      inNetns(netns, () => server.listen(port, 512));
      await listening;
      return Object.assign(server, { [Symbol.asyncDispose]: async () => void server.close() });
    },
    connect(address, port) {
      using handle = openNetns(netns);
      const socket = new Socket({ fd: handle.tcpSocket(4), allowHalfOpen: true });
      return socket.connect({ host: address, port });
    },
    async [Symbol.asyncDispose]() {
      await runProcess(["ip", "netns", "del", name], { operation: "remove a test's network" });
    },
  };
}
