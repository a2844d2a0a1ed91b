import type { ServiceImpl } from "@connectrpc/connect";
import type { node } from "@sporelet/api";
import type { FakeData } from "./fake-data.ts";

type Pool = { snapshot: string; snapshotDigest: string; wanted: number; ready: number; automatic: boolean };

/** Slots of a fake node: no more than three can be prepared. */
export function fakeSlots(
  data: FakeData,
): Pick<ServiceImpl<typeof node.NodeService>, "keepSlots" | "listSlots" | "warmCache" | "metrics"> {
  const pools = new Map<string, Pool>();
  const told = (pool: Pool) => ({
    ...pool,
    privateBytes: BigInt(pool.ready) * (18n << 20n),
    problem: pool.ready < pool.wanted ? "there is no memory left" : "",
  });
  return {
    keepSlots: ({ snapshot, slots, automatic }) => {
      const { digest: snapshotDigest } = data.snapshot(snapshot);
      const wanted = automatic ? 1 : slots;
      const pool = { snapshot, snapshotDigest, wanted, ready: Math.min(3, wanted), automatic };
      if (wanted === 0) pools.delete(snapshotDigest);
      else pools.set(snapshotDigest, pool);
      return told(pool);
    },
    listSlots: () => ({ pools: [...pools.values()].map(told) }),
    metrics: () => ({ text: 'sporelet_machines{state="running"} 1\n' }),
    warmCache: ({ snapshot }) => ({ bytes: data.snapshot(snapshot).memoryUsedBytes ?? 0n }),
  };
}
