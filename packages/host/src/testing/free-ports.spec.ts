import { once } from "node:events";
import { createServer } from "node:net";
import { expect, it } from "vitest";
import { freePorts } from "./free-ports.ts";

it("ports for tests are free, others each time, and none that the kernel hands out", async () => {
  const first = await freePorts(3);
  const second = await freePorts(3);
  expect(Math.abs(second - first)).toBeGreaterThanOrEqual(3);
  for (const port of [first, second, second + 2]) {
    expect(port).toBeLessThan(32_768);
    const server = createServer().listen(port, "127.0.0.1");
    await once(server, "listening");
    server.close();
  }
});

it("ports for tests do not include those that somebody listens on", async () => {
  const taken = await freePorts();
  const server = createServer().listen(taken, "127.0.0.1");
  await once(server, "listening");
  // All of this worker's ports come up again in that many calls.
  for (let i = 0; i < 600; i++) expect(await freePorts()).not.toBe(taken);
  server.close();
});
