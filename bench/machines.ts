/** What the benches have in common: machines of a running spored, as a person would use them. */
import { get } from "node:http";
import { join } from "node:path";
import type { node as messages, NodeClient } from "@sporelet/api";

/** What was built is measured, not the source run as it is. */
process.env.SPORELET_SPORED ??= join(import.meta.dirname, "../dist/spored");

/** The first machine that a run, boot or fork says is ready. */
export async function started(events: AsyncIterable<messages.RunEvent>): Promise<messages.Machine> {
  for await (const { event } of events) if (event.case === "ready") return event.value;
  throw new Error("spored reported no machine");
}

/** One request on a connection of its own; rejects on anything but 200. */
export function visit(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, agent: false, signal: AbortSignal.timeout(30_000) }, (response) => {
      response.resume().on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`HTTP ${response.statusCode}`));
      });
    }).on("error", reject);
  });
}

/** Runs a shell command line in a machine; rejects when it fails. */
export async function shell(client: NodeClient, machine: string, script: string): Promise<void> {
  async function* requests() {
    yield { request: { case: "start" as const, value: { machine, argv: ["sh", "-c", script] } } };
  }
  for await (const { response } of client.exec(requests())) {
    if (response.case === "exit" && response.value.code !== 0) throw new Error(`${script} failed`);
  }
}

/** Says on a terminal what is being measured. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}\r`);
}
