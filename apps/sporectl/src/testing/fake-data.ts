import type { MessageInitShape } from "@bufbuild/protobuf";
import type { node } from "@sporelet/api";
import { nearest, SporeletError } from "@sporelet/errors";

/** What a message is made of, not a message. */
type Init<T> = Extract<T, { $typeName?: never }>;
type Machine = Init<MessageInitShape<typeof node.MachineSchema>> & {
  id: string;
  name: string;
  state: string;
};
type Snapshot = Init<MessageInitShape<typeof node.SnapshotSchema>> & { digest: string; tags: string[] };
type BuildEvent = NonNullable<MessageInitShape<typeof node.BuildEventSchema>["event"]>;

/** The clock of every test: 2026-01-02T03:04:05Z. */
export const testNowMs = Date.UTC(2026, 0, 2, 3, 4, 5);

const ago = (seconds: number) => ({ seconds: BigInt(testNowMs / 1000 - seconds), nanos: 0 });
const digestA = `sha256:${"a1b2c3d4e5f6".repeat(6).slice(0, 64)}`;
const digestB = `sha256:${"0badcafe1234".repeat(6).slice(0, 64)}`;

/** What a fake node knows. Each has its own copy, so that tests may change it. */
export interface FakeData {
  machines: Machine[];
  snapshots: Snapshot[];
  checks: MessageInitShape<typeof node.CheckSchema>[];
  buildEvents: BuildEvent[];
  buildFailure: SporeletError;
  resumeFailure: SporeletError;
  machine(reference: string): Machine;
  snapshot(reference: string): Snapshot;
  start(request: StartRequest, index: number): Machine;
  transition(reference: string, from: string, to: string, verb: string): Machine;
  remove(reference: string, force: boolean): void;
  stats(references: string[]): MessageInitShape<typeof node.MachineStatsSchema>[];
  logLines(source: string): string[];
}

interface StartRequest {
  snapshot: string;
  name: string;
  count: number;
  ports: { host: number; guest: number }[];
  remove: boolean;
}

export function createFakeData(): FakeData {
  const machines: Machine[] = [
    {
      ...machine("6f0e3a9b51c2", "hello-1", "running"),
      created: ago(42),
      pid: 1234,
      limits: { cpus: 0.5, memoryBytes: 536_870_912n, ioBytesPerSecond: 0n },
      ports: [{ host: 32768, guest: 8080, hostAddress: "127.0.0.1" }],
      timings: { readyMs: 84.21, slotMs: 31.5, loadMs: 9.8, agentMs: 38.4, readyStageMs: 4.51 },
    },
    { ...machine("77ab00c1d2e3", "hello-2", "paused"), created: ago(3700), pid: 1240 },
    {
      ...machine("a0a0a0a0a0a0", "old", "failed"),
      created: ago(200_000),
      failure: "the VMM ended with signal 9",
    },
  ];
  const snapshots: Snapshot[] = [
    {
      digest: digestA,
      tags: ["hello:latest"],
      created: ago(7200),
      layer: 1,
      parent: digestB,
      vmm: "qemu",
      vmmVersion: "7.2.15",
      accelerator: "tcg",
      cpuModel: "max",
      kernel: "6.1.0-40-cloud-amd64",
      agentVersion: "0.1.0",
      memoryBytes: 1n << 30n,
      memoryUsedBytes: 310n << 20n,
      memoryOwnBytes: 12n << 20n,
      diskBytes: 4n << 30n,
      diskUsedBytes: 1_450_000_000n,
      diskOwnBytes: 3n << 20n,
      cpus: 1,
      ports: [{ guest: 8080 }],
      services: ["api", "redis"],
      directory: "/var/lib/sporelet/store/snapshots/a1b2c3d4e5f6",
      configJson: '{"formatVersion":2}',
      source: "/src/hello",
    },
    {
      digest: digestB,
      tags: [],
      created: ago(90_000),
      layer: 0,
      vmm: "qemu",
      vmmVersion: "7.2.15",
      memoryUsedBytes: 60n << 20n,
      memoryOwnBytes: 60n << 20n,
    },
  ];
  const data: FakeData = {
    machines,
    snapshots,
    checks: [
      {
        id: "accelerator",
        title: "Accelerator",
        status: "degraded",
        finding: "tcg (software emulation)",
        remedy: "use a host with KVM for full speed",
      },
      { id: "vmm.qemu", title: "QEMU", status: "ok", finding: "7.2.15" },
      {
        id: "tap",
        title: "Taps",
        status: "missing",
        finding: "/dev/net/tun is not there",
        remedy: "modprobe tun",
      },
    ],
    buildEvents: [
      step("kernel", "Kernel", "cached"),
      step("rootfs", "Root file system", "started"),
      { ...step("rootfs", "", "progress", 1500, 0.25) },
      { case: "log", value: { source: "mmdebstrap", line: "I: installing packages" } },
      step("rootfs", "", "done", 12_345),
      step("warm", "Warm up", "started"),
      step("warm", "", "progress", 900, -1, "api is healthy"),
      step("warm", "", "done", 2100),
    ],
    buildFailure: new SporeletError({
      code: "guest_failed",
      operation: "build",
      subject: "broken",
      reason: "service api never became healthy within 180 s",
      hint: "its healthcheck is: curl -f http://127.0.0.1:8080/",
      log: "api  | Traceback (most recent call last):\napi  | ImportError: no module named redis\n",
    }),
    resumeFailure: new SporeletError({
      code: "guest_failed",
      operation: "resume a clone of",
      subject: "broken",
      reason: "the hook 10-db failed with exit code 3",
      hint: "see /etc/sporelet/hooks/after-resume.d/10-db in the guest",
      log: "cannot reach the database\u001b[31m!\u001b[0m\n",
    }),
    machine(reference) {
      const found = machines.find(
        ({ id, name }) => name === reference || (reference.length >= 4 && id.startsWith(reference)),
      );
      if (found !== undefined) return found;
      throw notFound(
        "machine",
        reference,
        nearest(
          reference,
          machines.map(({ name }) => name),
        ),
        "sporectl ps -a lists the machines",
      );
    },
    snapshot(reference) {
      const full = reference.includes(":") ? reference : `${reference}:latest`;
      const digits = reference.replace(/^sha256:/, "");
      const found = snapshots.find(
        ({ tags, digest }) =>
          tags.includes(full) || (digits.length >= 12 && digest.slice(7).startsWith(digits)),
      );
      if (found !== undefined) return found;
      const names = snapshots.flatMap(({ tags }) => tags.map((tag) => tag.replace(/:latest$/, "")));
      throw notFound(
        "snapshot",
        reference,
        nearest(reference, names),
        "sporectl snapshot ls lists the snapshots",
      );
    },
    start(request, index) {
      const name = request.name
        ? request.count > 1
          ? `${request.name}-${index + 1}`
          : request.name
        : `hello-${3 + index}`;
      const id = `c10e000000${index}0`;
      const ports = request.ports.map(({ host, guest }) => ({
        host: host === 0 ? 40_000 + index : host + index,
        guest,
      }));
      const started = {
        ...machine(id, name, "running"),
        pid: 2000 + index,
        ports,
        remove: request.remove,
        created: ago(0),
        timings: {
          readyMs: 84.21 + index * 12,
          slotMs: 31.5,
          loadMs: 9.8,
          agentMs: 38.4,
          readyStageMs: 4.51,
        },
      };
      machines.push(started);
      return started;
    },
    transition(reference, from, to, verb) {
      const found = data.machine(reference);
      if (found.state !== from) {
        throw new SporeletError({
          code: "failed_precondition",
          operation: verb,
          subject: found.name,
          reason: `it is ${found.state}, not ${from}`,
        });
      }
      return Object.assign(found, { state: to });
    },
    remove(reference, force) {
      const found = data.machine(reference);
      if (found.state === "running" && !force) {
        throw new SporeletError({
          code: "failed_precondition",
          operation: "remove",
          subject: found.name,
          reason: "it is running",
          hint: `stop it first, or: sporectl rm -f ${found.name}`,
        });
      }
      machines.splice(machines.indexOf(found), 1);
    },
    stats(references) {
      const chosen =
        references.length > 0
          ? references.map((reference) => data.machine(reference))
          : machines.filter(({ state }) => state === "running");
      return chosen.map(({ id, name, state }) => ({
        id,
        name,
        state,
        cpuMs: 1500,
        cpuShare: -1,
        rssBytes: 400n << 20n,
        pssBytes: 90n << 20n,
        privateBytes: 61n << 20n,
        guestMemoryTotalBytes: 1n << 30n,
        guestMemoryAvailableBytes: 700n << 20n,
        guestLoad1: 0.25,
        uptimeMs: 42_000n,
      }));
    },
    logLines(source) {
      if (source === "console")
        return ["[    0.000000] Linux version 6.1.0", "[    1.250000] sporelet: ready", "login: none"];
      if (source === "api") return ["GET / 200", "GET /healthz 200"];
      throw notFound(
        "log",
        source,
        nearest(source, ["console", "agent", "vmm", "api", "redis"]),
        "there are console, agent, vmm, api and redis",
      );
    },
  };
  return data;
}

function machine(id: string, name: string, state: string): Machine {
  return {
    id,
    name,
    state,
    snapshot: "hello:latest",
    snapshotDigest: digestA,
    origin: "resume",
    vmm: "qemu 7.2.15",
    accelerator: "tcg",
    memoryBytes: 1n << 30n,
    cpus: 1,
    diskBytes: 4n << 30n,
    diskClone: "reflink",
    network: "netns",
    netns: `spore-${id.slice(0, 4)}`,
    hostname: name,
    machineId: id.repeat(3).slice(0, 32),
  };
}

function step(
  id: string,
  title: string,
  state: string,
  elapsedMs = 0,
  fraction = -1,
  detail = "",
): BuildEvent {
  return { case: "step", value: { id, title, state, fraction, elapsedMs, detail } };
}

function notFound(kind: string, name: string, near: string[], otherwise: string): SporeletError {
  return new SporeletError({
    code: "not_found",
    operation: `find the ${kind}`,
    subject: name,
    reason: "there is none of that name",
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : otherwise,
  });
}
