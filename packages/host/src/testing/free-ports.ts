import { once } from "node:events";
import { createServer } from "node:net";

/** Those that the kernel hands out begin at 32768 (ip_local_port_range, ip-sysctl.rst of Linux). */
const firstPort = 20_000;
const portsPerWorker = 500;
const workers = 24;

/** Test files that run at the same time are in workers with different numbers, counted from 1. */
const worker = Number(process.env.VITEST_POOL_ID ?? 0) % workers;
/** Another checkout's tests may run on this host too. */
let next = Math.floor(Math.random() * portsPerWorker);

/**
 * Host ports for tests that let go of one and take it again. One that the kernel chose may meanwhile become that of
 * anybody's connection; these are below its range, and each worker of the tests has its own.
 *
 * @param count how many in a row
 * @returns the first of them; nobody listens on any of them
 */
export async function freePorts(count = 1): Promise<number> {
  for (let tries = 0; tries < portsPerWorker; tries++) {
    if (next + count > portsPerWorker) next = 0;
    const first = firstPort + worker * portsPerWorker + next;
    const ports = Array.from({ length: count }, (_, index) => first + index);
    next += count;
    if ((await Promise.all(ports.map(isFree))).every(Boolean)) return first;
  }
  throw new Error(`no ${count} ports in a row are free`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen({ host: "127.0.0.1", port, exclusive: true });
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
