import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { node as api } from "@sporelet/api";
import type { StoredSnapshot } from "@sporelet/store";
import { limitsMessage } from "./limits.ts";
import type { MachineRecord } from "./record.ts";

/** A machine as the API tells it. */
export function machineMessage(record: MachineRecord): api.Machine {
  const { identity, network, timings } = record;
  return create(api.MachineSchema, {
    id: record.id,
    name: record.name,
    state: record.state,
    snapshot: record.snapshot,
    snapshotDigest: record.snapshotDigest,
    pid: record.process?.pid ?? 0,
    ports: record.ports,
    created: timestampFromDate(new Date(record.created)),
    origin: record.origin,
    vmm: record.vmm,
    accelerator: record.accelerator,
    memoryBytes: BigInt(record.memoryBytes),
    cpus: record.cpus,
    diskBytes: BigInt(record.diskBytes),
    network: network.kind,
    netns: network.kind === "netns" ? network.netns : "",
    directory: record.directory,
    diskClone: record.diskClone ?? "",
    hostname: identity.hostname,
    machineId: identity.machineId,
    generationId: identity.generationId,
    failure: record.failure ?? "",
    remove: record.remove,
    wakeOnConnect: record.wakeOnConnect ?? false,
    idleSuspendMs: record.idleSuspendMs ?? 0,
    ...(timings && { timings }),
    ...(record.limits && { limits: limitsMessage(record.limits) }),
    ksm: record.ksm ?? "",
  });
}

/** A snapshot as the API tells it. */
export function snapshotMessage(snapshot: StoredSnapshot, verified = false): api.Snapshot {
  const { config } = snapshot;
  const { memory, disk } = config.files;
  return create(api.SnapshotSchema, {
    digest: snapshot.digest,
    tags: snapshot.tags,
    created: timestampFromDate(new Date(config.created)),
    layer: config.layer,
    parent: config.parent ?? "",
    vmm: config.vmm.driver,
    vmmVersion: config.vmm.version,
    accelerator: config.vmm.accelerator,
    cpuModel: config.vmm.cpuModel ?? "",
    kernel: config.kernel.release,
    agentVersion: config.agent.version,
    memoryBytes: BigInt(memory.sizeBytes),
    memoryUsedBytes: BigInt(memory.usedBytes),
    diskBytes: BigInt(disk?.sizeBytes ?? 0),
    memoryOwnBytes: BigInt(memory.ownBytes ?? memory.usedBytes),
    diskUsedBytes: BigInt(disk?.usedBytes ?? 0),
    diskOwnBytes: BigInt(disk?.ownBytes ?? disk?.usedBytes ?? 0),
    cpus: config.shape.cpus,
    ports: config.ports.map(({ guest, host }) => ({ guest, host: host ?? 0 })),
    services: config.services,
    directory: snapshot.directory,
    pauseMs: config.pauseMs ?? 0,
    configJson: JSON.stringify(config),
    source: config.source,
    verified,
  });
}
