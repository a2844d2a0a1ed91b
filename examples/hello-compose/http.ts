import { get } from "node:http";

/** Asks until the port answers with 200, as an impatient client would; at most five minutes. */
export async function firstResponse(port: number, signal: AbortSignal): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(300_000)]);
  for (;;) {
    try {
      await visit(port, deadline);
      return;
    } catch (error) {
      deadline.throwIfAborted();
      // Not up yet. The pause keeps the client from taking the CPU that the guest needs to come up.
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (!(error instanceof Error)) throw error;
    }
  }
}

/** Visits the hello API once and returns the count it answers with. */
export function visit(port: number, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    // No kept connection: every visit is a connection of its own, as from another client.
    const request = get(
      { host: "127.0.0.1", port, path: "/", agent: false, signal, timeout: 30_000 },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (text: string) => {
          body += text;
        });
        response.on("error", reject);
        response.on("end", () => {
          if (response.statusCode !== 200) return reject(new Error(`HTTP ${response.statusCode}: ${body}`));
          resolve((JSON.parse(body) as { visits: number }).visits);
        });
      },
    );
    request.on("timeout", () => request.destroy(new Error("no answer within 30 s")));
    request.on("error", reject);
  });
}
