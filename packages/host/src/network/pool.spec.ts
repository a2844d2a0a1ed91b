import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, type TestContext } from "vitest";
import { runProcess } from "../process.ts";
import { type TestNetns, testNetns, whyNoNetns } from "../testing/index.ts";
import { createNetworkPool, type NetworkPool } from "./pool.ts";

/** The host is a namespace of the test's, with another one as the world outside: the real one stays untouched. */
interface World {
  host: TestNetns;
  outside: TestNetns;
  owner: string;
  /** Pools that are closed and swept at the end, and of whose networks nothing may be left then. */
  pool(spare: number): NetworkPool;
}

const outsideAddress = "198.51.100.1";
const hostAddress = "198.51.100.2";

async function withWorld(ctx: TestContext, run: (world: World) => Promise<void>): Promise<void> {
  const reason = whyNoNetns();
  if (reason) ctx.skip(reason);
  await using outside = await testNetns();
  await using host = await testNetns();
  await host.ip(
    `link add eth0 type veth peer name eth0 netns ${outside.name}`,
    `addr add ${hostAddress}/24 dev eth0`,
    "link set eth0 up",
  );
  await outside.ip(`addr add ${outsideAddress}/24 dev eth0`, "link set eth0 up");
  const owner = randomBytes(4).toString("hex");
  const pools: NetworkPool[] = [];
  const pool = (spare: number) => {
    const made = createNetworkPool({ owner, spare, hostNetns: host.netns });
    pools.push(made);
    return made;
  };
  try {
    await run({ host, outside, owner, pool });
  } finally {
    for (const made of pools) await made.close();
    const last = createNetworkPool({ owner, spare: 0, hostNetns: host.netns });
    await last.sweep([]);
  }
  expect(await namesOf(owner)).toEqual([]);
  expect(await rulesOf(host)).not.toContain("sporelet");
}

const operation = "look at a test's network";
const namesOf = async (owner: string) =>
  (await readdir("/run/netns")).filter((name) => name.includes(owner)).sort();
const rulesOf = async ({ netns }: TestNetns) =>
  (await runProcess(["nft", "list", "ruleset"], { operation, netns })).stdout;
const forwardingOf = async ({ netns }: TestNetns) =>
  (await runProcess(["cat", "/proc/sys/net/ipv4/ip_forward"], { operation, netns })).stdout.trim();

/** Puts a namespace in the place of the guest behind the tap device. */
async function attachGuest(guest: TestNetns, clone: string): Promise<void> {
  const commands = [
    "addr del 10.107.0.1/24 dev tap0",
    `link add guest0 type veth peer name eth0 netns ${guest.name}`,
    "addr add 10.107.0.1/24 dev guest0",
    "link set guest0 up",
  ];
  await runProcess(["ip", "-n", clone, "-batch", "-"], {
    operation,
    stdin: Buffer.from(`${commands.join("\n")}\n`),
  });
  await guest.ip("addr add 10.107.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.107.0.1");
}

/** The address from which a connection arrives at the outside. */
async function arrivalOf(from: TestNetns, { outside }: World): Promise<string | undefined> {
  const arrived = Promise.withResolvers<string | undefined>();
  await using _server = await outside.listen(80, (socket) => {
    arrived.resolve(socket.remoteAddress?.replace("::ffff:", ""));
    socket.end();
  });
  const client = from.connect(outsideAddress, 80);
  client.once("error", arrived.reject);
  client.on("data", () => {});
  const address = await arrived.promise;
  client.destroy();
  return address;
}

it("a guest reaches the outside under the host's address", (ctx) =>
  withWorld(ctx, async (world) => {
    const network = await world.pool(0).take();
    expect(network).toMatchObject({ netns: `/run/netns/${network.name}`, tap: "tap0" });
    await using guest = await testNetns();
    await attachGuest(guest, network.name);
    expect(await arrivalOf(guest, world)).toBe(hostAddress);
  }));

it("a guest gets out although Docker's rules drop what is forwarded, and leaves them as they were", (ctx) =>
  withWorld(ctx, async (world) => {
    await world.host.nft(`table ip filter {
      chain DOCKER { }
      chain FORWARD { type filter hook forward priority filter; policy drop; oifname "docker0" jump DOCKER; }
    }`);
    const before = await rulesOf(world.host);
    const pool = world.pool(0);
    const network = await pool.take();
    await using guest = await testNetns();
    await attachGuest(guest, network.name);
    expect(await arrivalOf(guest, world)).toBe(hostAddress);
    await pool.release(await pool.take()); // Makes another and looks at the rules again: they are not doubled.
    expect((await rulesOf(world.host)).match(/comment "sporelet"/g)).toHaveLength(2);
    await pool.release(network);
    expect(await rulesOf(world.host)).toBe(before);
  }));

it("guests with the same address do not reach each other's namespaces", (ctx) =>
  withWorld(ctx, async (world) => {
    const pool = world.pool(0);
    const [one, two] = [await pool.take(), await pool.take()];
    await using guest = await testNetns();
    await attachGuest(guest, one.name);
    const { stdout } = await runProcess(["ip", "-n", two.name, "-br", "-4", "addr", "show", "uplink"], {
      operation,
    });
    const address = /10\.108\.\d+\.\d+/.exec(stdout)?.[0] ?? "";
    // Dropped without an answer: the connection would hang, so ping with a deadline of its own.
    const ping = await runProcess(
      ["ip", "netns", "exec", guest.name, "timeout", "1", "bash", "-c", `echo > /dev/tcp/${address}/1`],
      {
        operation,
        ok: [0, 1, 124],
      },
    );
    expect(ping.code).toBe(124);
    expect(await arrivalOf(guest, world)).toBe(hostAddress);
  }));

it("networks are made ahead, and taking one has the next one made", (ctx) =>
  withWorld(ctx, async ({ pool: create, owner }) => {
    const pool = create(2);
    await pool.filled();
    const spare = await namesOf(owner);
    expect(spare).toHaveLength(2);
    const network = await pool.take();
    expect(spare).toContain(network.name);
    await pool.filled();
    expect(await namesOf(owner)).toHaveLength(3);
    await pool.close();
    expect(await namesOf(owner)).toEqual([network.name]);
    await expect(pool.take()).rejects.toMatchObject({ code: "failed_precondition" });
  }));

it("a network that somebody removed while it lay ready is not handed out", (ctx) =>
  withWorld(ctx, async ({ pool: create, owner }) => {
    const pool = create(1);
    await pool.filled();
    const [ready = ""] = await namesOf(owner);
    await runProcess(["ip", "netns", "del", ready], { operation });
    const network = await pool.take();
    expect(await namesOf(owner)).toContain(network.name);
  }));

it("networks taken at the same time are all different", (ctx) =>
  withWorld(ctx, async ({ pool: create }) => {
    const [one, two] = [create(1), create(0)];
    const taken = await Promise.all(Array.from({ length: 8 }, (_, i) => (i % 2 ? one : two).take()));
    expect(new Set(taken.map(({ name }) => name)).size).toBe(8);
  }));

it("a restarted owner adopts what is in use and sweeps the rest", (ctx) =>
  withWorld(ctx, async ({ pool: create, owner }) => {
    const crashed = create(2);
    const [kept, used, left] = [await crashed.take(), await crashed.take(), await crashed.take()];
    await crashed.filled();
    const next = create(1);
    await next.filled();
    expect(await next.adopt(kept.name)).toEqual(kept);
    expect(await next.adopt(`spore-${owner}-9999`)).toBeUndefined();
    expect(await next.adopt("spore-00000000-1")).toBeUndefined();
    const swept = await next.sweep([used.name]);
    expect(swept).toContain(left.name);
    expect(swept).toHaveLength(3);
    const names = await namesOf(owner);
    expect(names).toHaveLength(3);
    expect(names).toEqual(expect.arrayContaining([kept.name, used.name]));
  }));

it("forwarding is switched on while there are networks, and the rules go with the last one", (ctx) =>
  withWorld(ctx, async ({ pool: create, host }) => {
    const wasOn = await forwardingOf(host);
    await runProcess(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"], {
      operation,
      netns: host.netns,
    });
    expect(wasOn).toMatch(/^[01]$/);
    const pool = create(0);
    const [one, two] = [await pool.take(), await pool.take()];
    expect(await forwardingOf(host)).toBe("1");
    await pool.release(one);
    expect(await rulesOf(host)).toContain("sporelet");
    await pool.release(two);
    expect(await rulesOf(host)).toBe("");
    expect(await forwardingOf(host)).toBe("0");
  }));

it("a failure halfway leaves nothing, and says what to install", (ctx) =>
  withWorld(ctx, async ({ pool: create, owner }) => {
    const pool = create(0);
    const programs = await mkdtemp(join(tmpdir(), "sporelet-test-"));
    const { stdout } = await runProcess(["sh", "-c", "command -v ip"], { operation });
    await symlink(stdout.trim(), join(programs, "ip"));
    const path = process.env.PATH;
    process.env.PATH = programs; // Has ip, but no nft.
    try {
      await expect(pool.take()).rejects.toMatchObject({
        code: "unsupported",
        hint: "apt-get install -y nftables",
      });
    } finally {
      process.env.PATH = path;
      await rm(programs, { recursive: true });
    }
    expect(await namesOf(owner)).toEqual([]);
  }));

it("an aborted call leaves nothing", (ctx) =>
  withWorld(ctx, async ({ pool: create, owner }) => {
    const abort = new AbortController();
    const pool = create(0);
    const taking = pool.take(abort.signal);
    setImmediate(() => abort.abort());
    await expect(taking).rejects.toMatchObject({ code: "cancelled" });
    await pool.close();
    expect(await namesOf(owner)).toEqual([]);
  }));
