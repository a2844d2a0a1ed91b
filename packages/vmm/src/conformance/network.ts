/** The part of the suite that needs a network: a service frozen in a guest answers in its clones. */
import { createServer, type Socket } from "node:net";
import { guestNetwork } from "@sporelet/host";
import { freePorts, testNetns, whyNoNetns } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import type { ConformanceContext } from "../conformance.ts";
import type { BootSpec, MachineShape, NetworkBackend, SlotSpec } from "../contract.ts";
import { type Frozen, freeze, meetBooted, meetResumed } from "./guest.ts";

const guestPort = 8080;
const serve = `mkdir /www && echo frozen > /www/index.html && httpd -p ${guestPort} -h /www`;

interface Tools {
  context: () => ConformanceContext;
  bootSpec(): Promise<BootSpec>;
  slotSpec(from: Frozen): Promise<SlotSpec>;
  newDirectory(): Promise<string>;
}

export function networkTests({ context, bootSpec, slotSpec, newDirectory }: Tools): void {
  /** Boots with the network, freezes, and asks a clone's web server. */
  const answers = async (network: NetworkBackend, ask: () => Promise<string>) => {
    const withNetwork = <T extends { shape: MachineShape }>(spec: T) => ({
      ...spec,
      shape: { ...spec.shape, network: network.kind, mac: guestNetwork.mac },
      network,
    });
    const booted = await meetBooted(await context().vmm.boot(withNetwork(await bootSpec())), guestNetwork);
    let frozen: Frozen;
    try {
      await booted.run(serve);
      frozen = await freeze(booted, await newDirectory());
    } finally {
      await booted.machine.stop();
    }
    await using slot = await context().vmm.prepare(withNetwork(await slotSpec(frozen)));
    await using clone = await meetResumed(slot, guestNetwork);
    expect(await ask()).toContain("frozen");
    await clone.run("echo changed > /www/index.html");
    expect(await ask()).toContain("changed");
  };

  it("reaches a guest by a tap device in a network namespace", async (ctx) => {
    const reason = whyNoNetns();
    if (reason !== undefined) return ctx.skip(reason);
    await using netns = await testNetns();
    await netns.ip(
      "tuntap add dev tap0 mode tap",
      `addr add ${guestNetwork.gateway}/24 dev tap0`,
      "link set tap0 up",
    );
    const address = guestNetwork.address.split("/")[0] ?? "";
    await answers({ kind: "tap", netns: netns.netns, tap: "tap0" }, () =>
      get(netns.connect(address, guestPort)),
    );
  });

  it("reaches a guest by a port of the user-mode network", async () => {
    const hostPort = await freePorts();
    const forward = { hostAddress: "127.0.0.1", hostPort, guestPort };
    const ask = async () => {
      const response = await fetch(`http://127.0.0.1:${hostPort}/`);
      return await response.text();
    };
    await answers({ kind: "user", forwards: [forward] }, ask);
  });

  it("says which port is in use", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    try {
      const forwards = [{ hostAddress: "127.0.0.1", hostPort: port, guestPort }];
      const spec = await bootSpec();
      const shape = { ...spec.shape, network: "user" } as const;
      const boot = context().vmm.boot({ ...spec, shape, network: { kind: "user", forwards } });
      await expect(boot).rejects.toMatchObject({
        code: "already_exists",
        log: expect.stringContaining(`${port}`),
      });
    } finally {
      server.close();
    }
  });
}

/** The whole answer to a request for /. */
async function get(socket: Socket): Promise<string> {
  socket.end("GET / HTTP/1.0\r\n\r\n");
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
