import { Duplex, PassThrough } from "node:stream";
import type { AgentClient } from "@sporelet/api";
import { exec } from "@sporelet/api";
import type { Guest } from "./guest.ts";

const chunkBytes = 64 * 1024;

/** A guest as its agent serves it. */
export function agentGuest(client: AgentClient): Guest {
  return {
    async exec(argv, { signal, stdin, onLine }) {
      const stdout = collector((line) => onLine?.("stdout", line));
      const stderr = collector((line) => onLine?.("stderr", line));
      const { code } = await exec(
        client,
        { argv, stdin, onStdout: stdout.add, onStderr: stderr.add },
        signal,
      );
      return { code, stdout: stdout.end(), stderr: stderr.end() };
    },
    connect: (port, host, signal) => forward(client, port, host, signal),
  };
}

/** Keeps all output as text and hands it on by lines as it comes. */
function collector(onLine: (line: string) => void) {
  const chunks: Uint8Array[] = [];
  const decoder = new TextDecoder();
  let partial = "";
  return {
    add(data: Uint8Array): void {
      chunks.push(data.slice());
      const lines = (partial + decoder.decode(data, { stream: true })).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    },
    end(): string {
      if (partial !== "") onLine(partial);
      return Buffer.concat(chunks).toString("utf8");
    },
  };
}

/** AgentService.Forward as a stream. */
function forward(client: AgentClient, port: number, host: string, signal: AbortSignal): Duplex {
  const outgoing = new PassThrough();
  const destroyed = new AbortController();
  let wanted = () => {};
  const duplex = new Duplex({
    read: () => wanted(),
    write: (chunk, encoding, done) => void outgoing.write(chunk, encoding, done),
    final: (done) => void outgoing.end(done),
    destroy(error, done) {
      destroyed.abort();
      outgoing.destroy();
      done(error);
    },
  });
  async function* requests() {
    yield { request: { case: "start" as const, value: { port, host } } };
    for await (const chunk of outgoing as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += chunkBytes) {
        yield { request: { case: "data" as const, value: chunk.subarray(at, at + chunkBytes) } };
      }
    }
  }
  const pump = async () => {
    const either = AbortSignal.any([signal, destroyed.signal]);
    for await (const { data } of client.forward(requests(), { signal: either })) {
      const { promise, resolve } = Promise.withResolvers<void>();
      wanted = resolve;
      if (!duplex.push(data)) await promise;
    }
    duplex.push(null);
  };
  pump().catch((error) => duplex.destroy(error));
  return duplex;
}
