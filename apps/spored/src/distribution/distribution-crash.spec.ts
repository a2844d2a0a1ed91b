import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type LimitedAddress, limitRate, startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestNode, type TestNode, traces } from "../testing/node.ts";
import { storeMadeUp } from "./testing/made-up.ts";
import { createRandom } from "./testing/random.ts";
import { pull, push } from "./testing/transfers.ts";

const mebibyte = 1024 * 1024;
const kills = Number(process.env.SPORELET_TEST_KILLS ?? 100);
/** So many of them when the operation has ended, at whatever time that is. */
const afterTheEnd = 3;
/** With fewer, none of them need be in the middle of a transfer. */
const enoughKills = 10;
/** Each kill is followed by the start of a spored, and by a whole transfer. */
const timeoutMs = (kills + 4) * 15_000;
/** Of the one blob that is large: sixteen chunks. */
const ownBytes = 4 * mebibyte;
const chunkBytes = 256 * 1024;
/** The transfer of that takes as long as what is done before and after it. */
const bitsPerSecond = 80_000_000;

/** When to kill: so long after the beginning, when so many bytes have gone over the line, or when all is done. */
type Instant = { afterMs: number } | { afterBytes: number } | "after the end";

describe(`a spored that is killed at ${kills} instants`, () => {
  const random = createRandom();
  let node: TestNode;
  let registry: TestRegistry;
  let link: LimitedAddress;
  let onPassed = () => {};

  beforeAll(async () => {
    process.env.SPORELET_CHUNK_BYTES = String(chunkBytes);
    // A killed spored never hears the answer to its last chunk, and with it the newest Location.
    const options = { relativeLocations: true, stableLocations: true };
    [node, registry] = await Promise.all([startTestNode(), startTestRegistry(options)]);
    link = await limitRate({ target: registry.address, bitsPerSecond, onPassed: () => onPassed() });
    await storeMadeUp(node.home, "parent", { ownBytes: 4096 });
    await push(node.client, { snapshot: "parent", target: named("parent") });
  });
  afterAll(async () => {
    delete process.env.SPORELET_CHUNK_BYTES;
    await node?.[Symbol.asyncDispose]();
    await link?.[Symbol.asyncDispose]();
    await registry?.[Symbol.asyncDispose]();
  });

  const named = (tag: string) => `${link.address}/team/app:${tag}`;

  interface Trial {
    prepare(n: number): Promise<unknown>;
    operation(n: number): Promise<unknown>;
    /** Called with the next spored at work. Runs the operation again, whether it had come to its end or not. */
    complete(n: number): Promise<void>;
    /** Bytes that have gone over the line since the beginning. */
    transferred(): number;
    /** Of those that the killed one has sent or received, what is there to go on from. */
    kept(transferredBytes: number): Promise<number>;
    /** So much of it may be transferred again. */
    slackBytes: number;
  }

  /**
   * Kills spored at random instants, half of them of the time that the operation takes, and half of the bytes that it
   * transfers, which on a busy host are few moments of that time.
   */
  const killedDuring = async (trial: Trial): Promise<void> => {
    // As long as it takes a spored that has just started, like all that are killed.
    await node.kill();
    await node.reconnect();
    await trial.prepare(0);
    const atFirst = trial.transferred();
    const began = performance.now();
    await trial.operation(0);
    const tookMs = performance.now() - began;
    const wholeBytes = trial.transferred() - atFirst;
    await trial.complete(0);
    let finished = 0;
    let amid = 0;
    for (let n = 1; n <= kills; n++) {
      const instant = instantOf(n, tookMs, wholeBytes);
      try {
        const { ended, keptBytes, restBytes } = await killedAt(trial, n, instant);
        if (ended) finished += 1;
        // What is there already does not go over the line again. All of it would if the next spored began anew.
        expect(restBytes).toBeLessThan(wholeBytes - keptBytes + trial.slackBytes);
        if (keptBytes > 2 * trial.slackBytes && restBytes > 2 * trial.slackBytes) amid += 1;
      } catch (error) {
        const when = JSON.stringify(instant);
        throw new Error(`kill ${n}, ${when}, with SPORELET_TEST_SEED=${random.seed}`, { cause: error });
      }
    }
    const seeded = `with SPORELET_TEST_SEED=${random.seed}`;
    // Instants before and after the end: the whole of the operation was hit.
    expect(finished, seeded).toBeGreaterThan(0);
    expect(finished, seeded).toBeLessThan(kills);
    if (kills >= enoughKills) expect(amid, seeded).toBeGreaterThan(0);
  };

  /** Waits until something holds that depends on what has gone over the line. */
  const passed = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      onPassed = () => {
        if (holds()) resolve();
      };
    });

  const instantOf = (n: number, tookMs: number, wholeBytes: number): Instant => {
    if (n > kills - afterTheEnd) return "after the end";
    const share = random.next();
    return n % 2 === 0 ? { afterBytes: share * wholeBytes } : { afterMs: share * 1.3 * tookMs };
  };

  const killedAt = async (trial: Trial, n: number, instant: Instant) => {
    await trial.prepare(n);
    const atFirst = trial.transferred();
    const going = trial.operation(n).then(
      () => true,
      () => false,
    );
    if (instant === "after the end") await going;
    else if ("afterMs" in instant) await sleep(instant.afterMs);
    else await Promise.race([passed(() => trial.transferred() - atFirst >= instant.afterBytes), going]);
    await node.kill();
    const ended = await going;
    await node.reconnect();
    const before = trial.transferred();
    const keptBytes = await trial.kept(before - atFirst);
    expect(await traces(node.home)).toEqual([]);
    await expectWhole();
    await trial.complete(n);
    return { ended, keptBytes, restBytes: trial.transferred() - before };
  };

  /** All that can be seen, here and in the registry, is what it says it is. */
  const expectWhole = async (): Promise<void> => {
    for (const { digest } of (await node.client.listSnapshots({})).snapshots) {
      expect(await node.client.verifySnapshot({ snapshot: digest })).toMatchObject({ verified: true });
    }
    for (const [digest, bytes] of registry.blobs) expect(sha256(bytes)).toBe(digest);
    for (const { bytes } of registry.manifests.values()) {
      const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString());
      for (const { digest } of [...layers, ...(config ? [config] : [])]) {
        expect(registry.blobs.has(digest)).toBe(true);
      }
      for (const { digest } of manifests) expect(registry.manifests.has(`team/app@${digest}`)).toBe(true);
    }
  };
  const sha256 = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

  it("in a push shows all of a snapshot or nothing, and sends the rest afterwards", {
    timeout: timeoutMs,
  }, async () => {
    const [manifests, blobs] = [new Set(registry.manifests.keys()), new Set(registry.blobs.keys())];
    const operation = (n: number) => push(node.client, { snapshot: `child${n}`, target: named(`child${n}`) });
    await killedDuring({
      prepare: (n) =>
        storeMadeUp(node.home, `child${n}`, { parent: "parent", ownBytes, offset: 4 * mebibyte }),
      operation,
      async complete(n) {
        await operation(n);
        expect(registry.manifests.has(`team/app:child${n}`)).toBe(true);
        await node.client.removeSnapshot({ snapshot: `child${n}` });
        await node.client.collectCache({});
        expect(await readdir(path.join(node.home, "store/blobs"))).toEqual([]);
        // What this test has no more use for would only fill its memory.
        for (const key of registry.manifests.keys()) if (!manifests.has(key)) registry.manifests.delete(key);
        for (const key of registry.blobs.keys()) if (!blobs.has(key)) registry.blobs.delete(key);
      },
      transferred: () => registry.requests.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0),
      kept: async (sentBytes) => sentBytes,
      // Where an upload goes on is written down after its first chunk; and what goes with one request.
      slackBytes: 2 * chunkBytes,
    });
  });

  it("in a pull leaves a whole snapshot or none, and fetches the rest afterwards", {
    timeout: timeoutMs,
  }, async () => {
    const { digest } = await storeMadeUp(node.home, "child", {
      ...{ parent: "parent", ownBytes, offset: 4 * mebibyte },
    });
    await push(node.client, { snapshot: "child", target: named("child") });
    for (const snapshot of (await node.client.listSnapshots({})).snapshots) {
      await node.client.removeSnapshot({ snapshot: snapshot.digest, force: true });
    }
    const operation = () => pull(node.client, { reference: named("child") });
    await killedDuring({
      prepare: () => node.client.collectCache({}),
      operation,
      async complete() {
        for (const snapshot of (await node.client.listSnapshots({})).snapshots)
          expect(snapshot.digest).toBe(digest);
        const { snapshot } = await operation();
        expect(snapshot).toMatchObject({ digest, tags: [named("child")] });
        expect(await readdir(path.join(node.home, "store/partial"))).toEqual([]);
        await node.client.removeSnapshot({ snapshot: digest });
      },
      transferred: () => link.sentBytes,
      // Of what the line has let through, much can be in the sockets of a process that gets little of the host.
      async kept() {
        let bytes = 0;
        for (const place of ["partial", "blobs"]) {
          const directory = path.join(node.home, "store", place);
          for (const name of await readdir(directory)) bytes += (await stat(path.join(directory, name))).size;
        }
        return bytes;
      },
      // Manifests, and what comes with the answers.
      slackBytes: 64 * 1024,
    });
  });
});
