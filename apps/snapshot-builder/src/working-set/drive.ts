/** Makes a clone do what its first user will make it do. */
import { request } from "node:http";
import { Socket } from "node:net";
import { type AgentClient, execOutput } from "@sporelet/api";
import type { HttpWarmup, Warmup } from "@sporelet/compose-preheater";
import { openNetns } from "@sporelet/host";
import type { NetworkLease } from "../vm/network.ts";

export interface DriveOptions {
  client: AgentClient;
  network: NetworkLease | undefined;
  /** Ports of the guest that are published. */
  ports: readonly number[];
  /** What its author asks it when it is warmed: asked from outside where it goes to such a port. */
  warmup: readonly Warmup[];
  signal: AbortSignal;
}

/** A service that says nothing for so long is no HTTP server. */
const answerTimeoutMs = 2_000;

/** Runs a command, and asks each published port once, over the network as a client would. */
export async function driveToFirstResponse(options: DriveOptions): Promise<void> {
  const { client, network, ports, signal } = options;
  await execOutput(client, { argv: ["true"] }, signal);
  if (network?.backend.kind !== "tap") return;
  const [address = ""] = network.guest.address.split("/");
  using netns = openNetns(network.backend.netns);
  for (const port of ports) {
    signal.throwIfAborted();
    const connect = () => new Socket({ fd: netns.tcpSocket(4) }).connect({ host: address, port });
    await ask(
      connect,
      requestFor(port, options.warmup),
      AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]),
    );
  }
}

type Asked = Pick<HttpWarmup, "method" | "body" | "headers"> & { path: string };

/** The first warm-up that goes to the port, or the request that every HTTP server answers. */
function requestFor(port: number, warmup: readonly Warmup[]): Asked {
  for (const one of warmup) {
    if (one.kind !== "http") continue;
    const url = new URL(one.url);
    if (Number(url.port || 80) === port) return { ...one, path: url.pathname + url.search };
  }
  return { method: "GET", path: "/", body: "", headers: {} };
}

/** Whatever comes of it is right: the port may speak something else than HTTP. */
function ask(
  connect: () => Socket,
  { method, path, body, headers }: Asked,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const outgoing = request({
      createConnection: connect,
      host: "localhost",
      ...{ method, path, signal },
      headers: { connection: "close", ...headers },
    });
    outgoing.on("error", () => resolve());
    outgoing.on("response", (response) => {
      response.on("error", () => resolve());
      response.on("end", resolve);
      response.resume();
    });
    outgoing.end(body === "" ? undefined : body);
  });
}
