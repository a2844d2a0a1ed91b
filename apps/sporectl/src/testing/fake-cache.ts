import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { node } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { type FakeData, testNowMs } from "./fake-data.ts";

type Entry = Extract<MessageInitShape<typeof node.CacheEntrySchema>, { $typeName?: never }> & {
  id: string;
  ownBytes: bigint;
};
type Calls =
  | "listCache"
  | "cacheUsage"
  | "collectCache"
  | "removeCache"
  | "snapshotHistory"
  | "tagSnapshot"
  | "removeSnapshot";

const mib = 1n << 20n;
const ago = (seconds: number) => ({ seconds: BigInt(testNowMs / 1000 - seconds), nanos: 0 });
const blob = `sha256:${"b10b".repeat(16)}`;
const build = `rootfs/${"3f2a91".repeat(11).slice(0, 64)}`;

/** The store of a fake node: what its snapshots and one machine take, and what nothing needs. */
export function fakeCache(data: FakeData): Pick<ServiceImpl<typeof node.NodeService>, Calls> {
  const [named, unnamed] = data.snapshots;
  const entries: Entry[] = [
    {
      ...{
        kind: "blob",
        id: blob,
        names: ["memory of hello:latest", "memory of hello:v1", "memory of b10b"],
      },
      ...{ ownBytes: 80n * mib, totalBytes: 80n * mib, lastUsed: ago(7000) },
    },
    {
      ...{ kind: "build", id: build, ownBytes: 0n, totalBytes: 900n * mib, lastUsed: ago(7200) },
    },
    {
      ...{ kind: "snapshot", id: unnamed?.digest ?? "", keptBy: ["child a1b2c3d4e5f6"] },
      ...{ ownBytes: 2n * mib, totalBytes: 60n * mib, lastUsed: ago(90_000), created: ago(90_000) },
    },
    {
      ...{ kind: "snapshot", id: named?.digest ?? "", names: ["hello:latest"] },
      ...{ ownBytes: 310n * mib, totalBytes: 1700n * mib, lastUsed: ago(42), created: ago(7200) },
      keptBy: ["tag hello:latest", "machine hello-1", "machine hello-2", "machine old"],
    },
    {
      ...{ kind: "machine", id: "6f0e3a9b51c2", names: ["hello-1"], keptBy: ["machine hello-1"] },
      ...{ ownBytes: 12n * mib, totalBytes: 1400n * mib, lastUsed: ago(3) },
    },
  ];
  const remove = (removed: Entry[], dryRun: boolean) => {
    if (!dryRun) for (const entry of removed) entries.splice(entries.indexOf(entry), 1);
    return { removed, freedBytes: removed.reduce((sum, { ownBytes }) => sum + ownBytes, 0n) };
  };
  const unneeded = () => entries.filter(({ keptBy }) => keptBy === undefined);
  return {
    listCache: () => ({ entries }),
    cacheUsage: () => ({
      kinds: [
        { kind: "partial" },
        { kind: "blob", count: 1, bytes: 80n * mib, reclaimableBytes: 80n * mib },
        { kind: "build", count: 1, bytes: 900n * mib },
        { kind: "snapshot", count: 2, bytes: 1702n * mib },
        { kind: "machine", count: 1, bytes: 1400n * mib },
      ],
      totalBytes: 1794n * mib,
      capacityBytes: 65_536n * mib,
      freeBytes: 60_000n * mib,
    }),
    collectCache: ({ dryRun, maxAgeMs, maxBytes }) => {
      if (maxAgeMs > 7_000_000n) return { removed: [], freedBytes: 0n };
      return remove(maxBytes > 0n ? unneeded().slice(0, 1) : unneeded(), dryRun);
    },
    removeCache: ({ ids, dryRun }) => {
      const chosen = ids.flatMap((id) =>
        entries.filter((entry) => entry.id.replace("sha256:", "").startsWith(id)),
      );
      const needed = chosen.find(({ keptBy }) => keptBy?.some((reason) => !reason.startsWith("tag ")));
      if (needed === undefined) return { ...remove(chosen, dryRun), sharingUnknown: true };
      throw new SporeletError({
        code: "failed_precondition",
        operation: "remove from the store",
        subject: needed.id,
        reason: `it is needed by ${needed.keptBy?.join(", ")}`,
        hint: "what needs it has to go first",
      });
    },
    snapshotHistory: ({ snapshot }) => {
      const { digest, tags, created, layer, source } = data.snapshot(snapshot);
      const known = { digest, tags, present: true, ...(layer !== undefined && { layer }) };
      const one = { ...known, ...(created && { created }), ...(source && { source }) };
      if (digest !== named?.digest) return { entries: [{ ...one, memoryOwnBytes: 60n * mib }] };
      return {
        entries: [
          { ...one, memoryOwnBytes: 12n * mib, diskOwnBytes: 3n * mib, publishedBytes: 6n * mib },
          { digest: unnamed?.digest ?? "", publishedBytes: 81n * mib },
          { publishedBytes: 20n * mib },
        ],
      };
    },
    tagSnapshot: ({ snapshot, tag, force }) => {
      const found = data.snapshot(snapshot);
      if (tag === "hello:latest" && !force) {
        throw new SporeletError({
          code: "already_exists",
          operation: "name the snapshot",
          subject: tag,
          reason: `another snapshot has this name, ${named?.digest.slice(0, 19)}`,
          hint: "choose another name, or --force moves this one",
        });
      }
      return { ...found, tags: [...found.tags, tag] };
    },
    removeSnapshot: ({ snapshot, force, dryRun }) => {
      const found = data.snapshot(snapshot);
      const child = data.snapshots.find(({ parent }) => parent === found.digest);
      if (child !== undefined && !force) {
        throw new SporeletError({
          code: "failed_precondition",
          operation: "remove the snapshot",
          subject: snapshot,
          reason: `it is the parent of ${child.tags[0]}`,
          hint: "remove these first, or force it: they stay whole, and are published whole from then on",
        });
      }
      if (!dryRun) data.snapshots.splice(data.snapshots.indexOf(found), 1);
      return { untagged: found.tags, deleted: [found.digest] };
    },
  };
}
