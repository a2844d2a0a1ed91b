import { createHash } from "node:crypto";
import { get } from "node:http";
import { join } from "node:path";
import { ok, sporectl, sporectlJson, top } from "./sporectl.ts";

export const project = join(top, "examples/hello-compose");
export const tag = "hello";

export interface Clone {
  id: string;
  name: string;
  pid: number;
  ports: { host: number; guest: number }[];
  readyMs: number;
  stages: { slot: number; load: number; agent: number; ready: number };
}

/** Builds the example once for all tests; the shared home keeps it. */
export async function buildHello(): Promise<void> {
  await ok(["build", project, "-t", tag], { timeoutMs: 1_200_000 });
}

/** Resumes clones that vanish at the end of the scope. */
export async function clones(
  args: string[] = [],
  snapshot = tag,
): Promise<AsyncDisposable & { list: Clone[]; first: Clone }> {
  const list = await sporectlJson<Clone[]>(["run", snapshot, ...args]);
  const [first] = list;
  if (first === undefined) throw new Error("run printed no clone");
  return {
    list,
    first,
    [Symbol.asyncDispose]: async () => {
      await sporectl(["rm", "-f", ...list.map((clone) => clone.id)]);
    },
  };
}

export function hostPort(clone: Clone | undefined): number {
  const port = clone?.ports[0]?.host;
  if (port === undefined) throw new Error("the clone has no published port");
  return port;
}

/** One HTTP request; rejects on anything but 200. */
export function visit(port: number): Promise<{ visits: number }> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, agent: false, signal: AbortSignal.timeout(60_000) }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("error", reject).on("end", () => {
        if (response.statusCode === 200) resolve(JSON.parse(body) as { visits: number });
        else reject(new Error(`HTTP ${response.statusCode}: ${body}`));
      });
    }).on("error", reject);
  });
}

export function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
