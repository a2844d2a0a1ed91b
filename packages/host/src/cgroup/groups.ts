/**
 * Control groups for the limits of a machine's VMM.
 *
 * The groups are MOUNT/sporelet/OWNER-ID, one in each hierarchy that is needed, and only for machines with limits:
 * putting a process into a group makes the kernel wait for all CPUs (an RCU grace period: 10 to 30 ms), and a page's
 * first user is charged for it. All of them together weigh as much as one busy process on each CPU.
 */
import { readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, stat, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import {
  type GroupSetting,
  killsFile,
  limitSettings,
  type MachineLimits,
  wasKilled,
  weightSetting,
} from "./files.ts";
import { type GroupControl, groupLayout, type Hierarchy } from "./layout.ts";

export interface MachineGroups {
  /** What can be set here; empty without root. */
  readonly supported: ReadonlySet<GroupControl>;
  /** @throws SporeletError `unsupported` when CPUs or memory cannot be limited here; I/O is up to the VMM. */
  require(limits: MachineLimits, operation: string, subject: string): void;
  /** Sets limits, and puts the process where they need it. @param disk file on the device that I/O is limited for. */
  limit(id: string, pid: number, limits: MachineLimits, disk: string): Promise<void>;
  /**
   * Removes the groups of a machine whose process has ended.
   * @returns whether the kernel ended it for its memory limit.
   */
  remove(id: string): Promise<{ outOfMemory: boolean }>;
  /** Removes the groups that are of none of these machines. */
  sweep(keep: ReadonlySet<string>): Promise<void>;
}

export interface MachineGroupsOptions {
  /** Stands for a SPORELET_HOME in the groups' names: `ownerOf(home)`. */
  owner: string;
  /** Default: what is mounted here, for root; none for others. */
  hierarchies?: readonly Hierarchy[];
}

/** Groups of the machines of one SPORELET_HOME. Makes nothing yet. */
export function machineGroups(options: MachineGroupsOptions): MachineGroups {
  const { owner, hierarchies = mountedHierarchies() } = options;
  const supported = new Set(hierarchies.flatMap(({ controls }) => controls));
  const parentOf = (hierarchy: Hierarchy) => join(hierarchy.path, "sporelet");
  const pathOf = (hierarchy: Hierarchy, id: string) => join(parentOf(hierarchy), `${owner}-${id}`);
  /** Groups that still had processes, which were about to end. */
  const busy = new Set<string>();

  const enter = async (hierarchy: Hierarchy, id: string, pid: number, controls: readonly GroupControl[]) => {
    const group = pathOf(hierarchy, id);
    busy.delete(group);
    for (let attempt = 1; ; attempt++) {
      try {
        // The group before what its parent needs: a parent that has a group cannot be removed any more, which
        // whoever ends the last machine does, in this process or that of another home.
        await mkdir(group, { recursive: true });
        await prepareParent(hierarchy, controls);
        await writeFile(join(group, "cgroup.procs"), `${pid}`);
        return;
      } catch (error) {
        // Removed between two of these steps, before or after a file of it was opened?
        const { code = "" } = error as NodeJS.ErrnoException;
        if (!["ENOENT", "ENODEV"].includes(code) || attempt === enterAttempts) throw error;
      }
    }
  };
  const removeAll = async (hierarchy: Hierarchy, paths: readonly string[]) => {
    for (const path of new Set([...paths, ...busy])) {
      if (await removeGroup(path)) busy.delete(path);
      else busy.add(path);
    }
    await removeGroup(parentOf(hierarchy));
  };
  return {
    supported,
    require(limits, operation, subject) {
      const asked: [GroupControl, unknown][] = [
        ["cpus", limits.cpus],
        ["memory", limits.memoryBytes],
      ];
      const missing = asked.flatMap(([control, value]) =>
        value === undefined || supported.has(control) ? [] : [control],
      );
      if (missing.length > 0) throw unsupported(missing, operation, subject);
    },
    async limit(id, pid, limits, disk) {
      const device = deviceName((await stat(disk)).dev);
      try {
        for (const hierarchy of hierarchies) {
          const settings = limitSettings(hierarchy.version, limits, device).filter(({ control }) =>
            hierarchy.controls.includes(control),
          );
          if (settings.length === 0) continue;
          const controls = settings.map(({ control }) => control);
          await enter(hierarchy, id, pid, controls);
          await write(pathOf(hierarchy, id), settings);
        }
      } catch (error) {
        throw SporeletError.from(error, { operation: "limit", subject: id });
      }
    },
    async remove(id) {
      const killed = await Promise.all(
        hierarchies.map(async (hierarchy) => {
          const path = pathOf(hierarchy, id);
          const file = join(path, killsFile[hierarchy.version]);
          const outOfMemory = wasKilled(await readFile(file, "utf8").catch(() => ""));
          await removeAll(hierarchy, [path]);
          return outOfMemory;
        }),
      );
      return { outOfMemory: killed.some(Boolean) };
    },
    async sweep(keep) {
      for (const hierarchy of hierarchies) {
        const names = await readdir(parentOf(hierarchy)).catch(() => []);
        const ours = names.filter((name) => name.startsWith(`${owner}-`));
        const left = ours.filter((name) => !keep.has(name.slice(owner.length + 1)));
        await removeAll(
          hierarchy,
          left.map((name) => join(parentOf(hierarchy), name)),
        );
      }
    },
  };
}

/** The hierarchies of this host that root may use. */
export function mountedHierarchies(): Hierarchy[] {
  if (process.getuid?.() !== 0) return [];
  const read = (path: string) => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  return groupLayout(read("/proc/mounts"), (path) => read(join(path, "cgroup.controllers")));
}

/** How often a group is made that is removed meanwhile: each time somebody's last machine has to end just then. */
const enterAttempts = 5;

/** Version 2 gives a group only the controllers that all groups above it pass on. */
async function prepareParent(hierarchy: Hierarchy, controls: readonly GroupControl[]): Promise<void> {
  const parent = join(hierarchy.path, "sporelet");
  if (hierarchy.version === 2) {
    const names = new Set(controls.map((control) => controllerOf[control]));
    const passOn = [...names].map((name) => `+${name}`).join(" ");
    for (const path of [hierarchy.path, parent]) {
      await writeFile(join(path, "cgroup.subtree_control"), passOn);
    }
  }
  if (controls.includes("cpus")) {
    await write(parent, [weightSetting(hierarchy.version, availableParallelism())]);
  }
}

const controllerOf: Record<GroupControl, string> = { cpus: "cpu", memory: "memory", io: "io" };

/** A file that is not there cannot be made (EACCES, EPERM); a device of another kind; a group that has gone. */
const cannot = new Set(["EACCES", "EPERM", "ENODEV", "EINVAL", "ENOENT"]);

async function write(group: string, settings: readonly GroupSetting[]): Promise<void> {
  for (const { file, value, optional } of settings) {
    await writeFile(join(group, file), value).catch((error: NodeJS.ErrnoException) => {
      if (!(optional && cannot.has(error.code ?? ""))) throw error;
    });
  }
}

/** @returns false when the group still has processes or groups, and stays. */
async function removeGroup(path: string): Promise<boolean> {
  return await rmdir(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return true;
      if (error.code === "EBUSY" || error.code === "ENOTEMPTY") return false;
      throw error;
    },
  );
}

/** As the kernel writes a dev_t: 12 bits of a major number between 20 of a minor one (makedev(3)). */
function deviceName(dev: number): string {
  const value = BigInt(dev);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & ~0xfffn);
  const minor = (value & 0xffn) | ((value >> 12n) & ~0xffn);
  return `${major}:${minor & 0xffffffffn}`;
}

function unsupported(missing: readonly GroupControl[], operation: string, subject: string): SporeletError {
  const names = { cpus: "CPUs", memory: "memory", io: "I/O" } as const;
  const what = missing.map((control) => names[control]).join(" and ");
  const root = process.getuid?.() === 0;
  return new SporeletError({
    code: "unsupported",
    operation,
    subject,
    reason: `this host cannot limit ${what}: ${root ? "no control group controller for it is mounted" : "this needs root"}`,
    hint: root
      ? "boot the host with systemd.unified_cgroup_hierarchy=1; see: sporectl doctor"
      : "run spored as root",
  });
}
