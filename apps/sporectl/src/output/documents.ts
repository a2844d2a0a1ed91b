import type { node } from "@sporelet/api";

/** A machine as `--json` prints it. Field names are stable. */
export function machineDocument(machine: node.Machine) {
  const { timings } = machine;
  return {
    id: machine.id,
    name: machine.name,
    state: machine.state,
    snapshot: machine.snapshot,
    snapshotDigest: machine.snapshotDigest,
    pid: machine.pid,
    ports: machine.ports.map(({ host, guest, hostAddress }) => ({
      host,
      guest,
      address: hostAddress || "127.0.0.1",
    })),
    readyMs: timings?.readyMs ?? null,
    stages: timings
      ? {
          plan: timings.planMs,
          slot: timings.slotMs,
          load: timings.loadMs,
          agent: timings.agentMs,
          ready: timings.readyStageMs,
        }
      : null,
    guestStages: timings?.guest
      ? {
          clock: timings.guest.clockMs,
          entropy: timings.guest.entropyMs,
          identity: timings.guest.identityMs,
          network: timings.guest.networkMs,
          thaw: timings.guest.thawMs,
          hooks: timings.guest.hooksMs,
        }
      : null,
    fromPool: timings?.fromPool ?? false,
    created: timeOf(machine.created),
    origin: machine.origin,
    vmm: machine.vmm,
    accelerator: machine.accelerator,
    memoryBytes: Number(machine.memoryBytes),
    cpus: machine.cpus,
    diskBytes: Number(machine.diskBytes),
    diskClone: machine.diskClone,
    network: machine.network,
    netns: machine.netns,
    directory: machine.directory,
    hostname: machine.hostname,
    machineId: machine.machineId,
    generationId: machine.generationId,
    failure: machine.failure,
    remove: machine.remove,
    limits: machine.limits
      ? {
          cpus: machine.limits.cpus || null,
          memoryBytes: Number(machine.limits.memoryBytes) || null,
          ioBytesPerSecond: Number(machine.limits.ioBytesPerSecond) || null,
        }
      : null,
    ksm: machine.ksm,
    wakeOnConnect: machine.wakeOnConnect,
    idleSuspendMs: machine.idleSuspendMs,
  };
}

/** A snapshot as `--json` prints it. Field names are stable. */
export function snapshotDocument(snapshot: node.Snapshot) {
  return {
    digest: snapshot.digest,
    tags: snapshot.tags,
    created: timeOf(snapshot.created),
    layer: snapshot.layer,
    parent: snapshot.parent,
    source: snapshot.source,
    vmm: snapshot.vmm,
    vmmVersion: snapshot.vmmVersion,
    accelerator: snapshot.accelerator,
    cpuModel: snapshot.cpuModel,
    kernel: snapshot.kernel,
    agentVersion: snapshot.agentVersion,
    cpus: snapshot.cpus,
    memoryBytes: Number(snapshot.memoryBytes),
    memoryUsedBytes: Number(snapshot.memoryUsedBytes),
    memoryOwnBytes: Number(snapshot.memoryOwnBytes),
    diskBytes: Number(snapshot.diskBytes),
    diskUsedBytes: Number(snapshot.diskUsedBytes),
    diskOwnBytes: Number(snapshot.diskOwnBytes),
    ports: snapshot.ports.map(({ guest }) => guest),
    services: snapshot.services,
    pauseMs: snapshot.pauseMs,
    directory: snapshot.directory,
    verified: snapshot.verified,
  };
}

/** One sample of `stats` as `--json` prints it; null where a figure is unknown. */
export function statsDocument(stats: node.MachineStats) {
  return {
    id: stats.id,
    name: stats.name,
    state: stats.state,
    cpuMs: stats.cpuMs,
    cpuShare: stats.cpuShare < 0 ? null : stats.cpuShare,
    rssBytes: Number(stats.rssBytes),
    pssBytes: Number(stats.pssBytes),
    privateBytes: Number(stats.privateBytes),
    diskBytes: Number(stats.diskBytes),
    guestMemoryTotalBytes: Number(stats.guestMemoryTotalBytes),
    guestMemoryAvailableBytes: Number(stats.guestMemoryAvailableBytes),
    guestLoad1: stats.guestLoad1,
    uptimeMs: Number(stats.uptimeMs),
  };
}

/** ISO 8601; null when it is not known. */
export function timeOf(time: node.Machine["created"]): string | null {
  return time === undefined ? null : new Date(millisecondsOf(time)).toISOString();
}

/** Milliseconds since the epoch. */
export function millisecondsOf(time: NonNullable<node.Machine["created"]>): number {
  return Number(time.seconds) * 1000 + time.nanos / 1e6;
}
