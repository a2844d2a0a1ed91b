import { access, constants, readFile } from "node:fs/promises";
import { release } from "node:os";
import { mountedHierarchies } from "../cgroup/groups.ts";
import type { GroupControl } from "../cgroup/layout.ts";
import { canMergeByProcess } from "../memory/merging.ts";
import { type Check, degraded, missing, ok, readableBytes } from "./check.ts";

const GiB = 1024 ** 3;
const read = (path: string) => readFile(path, "utf8").catch(() => undefined);

export async function kernelChecks(): Promise<Check[]> {
  return Promise.all([
    memoryCheck(),
    networkCheck(),
    ksmCheck(),
    hugePagesCheck(),
    cgroupCheck(),
    schedulerCheck(),
    fuseCheck(),
  ]);
}

async function memoryCheck(): Promise<Check> {
  const [id, title] = ["memory", "Free memory"];
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec((await read("/proc/meminfo")) ?? "")?.[1];
  if (kilobytes === undefined) return degraded(id, title, "unknown", "mount /proc");
  const bytes = Number(kilobytes) * 1024;
  const finding = `${readableBytes(bytes)} available`;
  if (bytes >= 2 * GiB) return ok(id, title, finding);
  const remedy = "end other programs, or give machines less memory in sporelet.yaml (machine: memory)";
  return bytes >= GiB / 2 ? degraded(id, title, finding, remedy) : missing(id, title, finding, remedy);
}

async function networkCheck(): Promise<Check> {
  const [id, title] = ["network", "Networks of clones"];
  const tun = await access("/dev/net/tun", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (process.getuid?.() !== 0) {
    const finding =
      "without root: QEMU's user-mode network, slower and for outgoing and published ports only";
    return degraded(id, title, finding, "run spored as root for a namespace and a tap device for each clone");
  }
  if (!tun) return missing(id, title, "there is no /dev/net/tun for tap devices", "modprobe tun");
  return ok(id, title, "a namespace and a tap device for each clone");
}

async function ksmCheck(): Promise<Check> {
  const [id, title] = ["ksm", "Merging of equal memory pages (KSM)"];
  const anyway = "clones share their snapshot's pages anyway";
  const run = (await read("/sys/kernel/mm/ksm/run"))?.trim();
  if (run === undefined) return ok(id, title, `not in this kernel; ${anyway}`);
  if (!canMergeByProcess(release())) return ok(id, title, `not for single processes (Linux 6.7); ${anyway}`);
  return ok(id, title, `${run === "1" ? "on" : "off"}; for clones that are run with --ksm; ${anyway}`);
}

async function hugePagesCheck(): Promise<Check> {
  const [id, title] = ["hugepages", "Transparent huge pages"];
  const setting = /\[(\w+)\]/.exec((await read("/sys/kernel/mm/transparent_hugepage/enabled")) ?? "")?.[1];
  if (setting === undefined) return ok(id, title, "not in this kernel");
  if (setting !== "always") return ok(id, title, setting);
  return degraded(
    id,
    title,
    "always: a clone that changes one page may pay for 2 MiB",
    "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
  );
}

async function cgroupCheck(): Promise<Check> {
  const [id, title] = ["cgroup", "Control groups"];
  if (process.getuid?.() !== 0) {
    return degraded(id, title, "need root: no limits of CPU and memory", "run spored as root");
  }
  const hierarchies = mountedHierarchies();
  const has = (control: GroupControl) => hierarchies.some(({ controls }) => controls.includes(control));
  const versions = new Set(hierarchies.map(({ version }) => version));
  const missingOnes = [!has("cpus") && "CPU", !has("memory") && "memory"].filter((name) => name !== false);
  if (missingOnes.length > 0) {
    const finding = `no controller for ${missingOnes.join(" and ")}: no limits of it`;
    return degraded(id, title, finding, "boot the host with systemd.unified_cgroup_hierarchy=1");
  }
  return ok(id, title, `version ${[...versions].sort().join(" and ")}: limits of CPU and memory`);
}

async function schedulerCheck(): Promise<Check> {
  const sessions = (await read("/proc/sys/kernel/sched_autogroup_enabled"))?.trim() === "1";
  return findingOfScheduler(release(), sessions);
}

/**
 * Whether the scheduler lets groups of processes stand still for seconds: docs/design/0012-weights-are-nice-values.md.
 *
 * @param kernel as uname -r says it
 * @param sessions whether each session is a group (autogroup in sched(7))
 */
export function findingOfScheduler(kernel: string, sessions: boolean): Check {
  const [id, title] = ["scheduler", "Scheduler"];
  const [major = 0, minor = 0, patch = 0] = kernel.split(/[.-]/).map(Number);
  const starves = major === 6 && minor >= 13 && !(minor === 18 && patch >= 45);
  if (!starves) return ok(id, title, "nothing is known against that of this kernel");
  const bug = "this kernel may let a group of processes stand still for seconds beside another";
  if (!sessions) return ok(id, title, `${bug}, but sessions are no groups`);
  return degraded(
    id,
    title,
    `${bug}, and each session is one`,
    "update Linux (6.18.45 is free of it), or: sysctl -w kernel.sched_autogroup_enabled=0",
  );
}

async function fuseCheck(): Promise<Check> {
  const [id, title] = ["fuse", "Starts while a snapshot is fetched"];
  const instead = "snapshots are fetched whole before their first start";
  if (process.getuid?.() !== 0) return degraded(id, title, `need root: ${instead}`, "run spored as root");
  const device = await access("/dev/fuse", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!device) return degraded(id, title, `there is no /dev/fuse: ${instead}`, "modprobe fuse");
  return ok(id, title, "memory and disks come by FUSE");
}
