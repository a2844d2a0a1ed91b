import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { AgentClient } from "@sporelet/api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { agentGuest } from "./agent-guest.ts";
import type { Guest } from "./guest.ts";
import { requestInGuest, warmHttp } from "./http.ts";
import type { HttpWarmup } from "./warmup.ts";

/** An agent that forwards to this host's own ports. */
const client = {
  async *forward(
    requests: AsyncIterable<{ request: { case: string; value: { port: number } & Uint8Array } }>,
  ) {
    const iterator = requests[Symbol.asyncIterator]();
    const first = await iterator.next();
    const socket = connect(first.value.request.value.port, "127.0.0.1");
    void (async () => {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        socket.write(next.value.request.value);
      }
    })().catch(() => socket.destroy());
    for await (const data of socket) yield { data };
  },
} as unknown as AgentClient;

let status: number;
let seen: string[];
let onSeen: () => unknown;
const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    seen.push(
      `${request.method} ${request.url} ${request.headers["x-a"] ?? ""} ${Buffer.concat(chunks).length}`,
    );
    onSeen();
    response.writeHead(status).end("x".repeat(100_000));
  });
});
let warmup: HttpWarmup;
beforeEach(async () => {
  status = 200;
  seen = [];
  onSeen = () => {};
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/path?q=1`;
  warmup = {
    kind: "http",
    url,
    status: 200,
    times: 3,
    method: "GET",
    body: "",
    headers: {},
    timeoutMs: 1000,
  };
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const guest = agentGuest(client);
const signal = () => new AbortController().signal;

describe("HTTP requests inside a guest", () => {
  it("go through the agent with method, headers and body", async () => {
    const posted = { ...warmup, method: "POST", body: "b".repeat(200_000), headers: { "x-a": "1" } };
    const { status: answered, body } = await requestInGuest(guest, posted, signal());
    expect(answered).toBe(200);
    expect(body).toBe("x".repeat(4096));
    expect(seen).toEqual(["POST /path?q=1 1 200000"]);
  });

  it("are repeated as often as was asked", async () => {
    const progress: number[] = [];
    await warmHttp(guest, warmup, signal(), (done) => progress.push(done));
    expect(progress).toEqual([1, 2, 3]);
  });

  it("fail with the last answer when the right one does not come in time", async () => {
    status = 503;
    const time = new AbortController();
    // It is up when an answer has come and the next is waited for.
    onSeen = () => seen.length === 2 && time.abort();
    await expect(warmHttp(guest, warmup, time.signal, () => {})).rejects.toThrow(
      "answered with status 503 instead of 200",
    );
    expect(seen).toHaveLength(2);
  });

  it("fail with what went wrong when nobody listens", async () => {
    const nowhere = { ...warmup, url: "http://127.0.0.1:1/" };
    const time = new AbortController();
    let attempts = 0;
    const counting: Guest = {
      ...guest,
      connect(...where) {
        attempts += 1;
        if (attempts === 2) queueMicrotask(() => time.abort());
        return guest.connect(...where);
      },
    };
    await expect(warmHttp(counting, nowhere, time.signal, () => {})).rejects.toThrow("ECONNREFUSED");
    expect(attempts).toBe(2);
  });
});
