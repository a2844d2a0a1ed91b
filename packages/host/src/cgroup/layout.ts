/** Which controllers of control groups this host offers, and where. Pure. */

/** What can be limited for a machine. */
export type GroupControl = "cpus" | "memory" | "io";

/** One mounted hierarchy with controllers that are of use here. */
export interface Hierarchy {
  /** 2 is the unified hierarchy, 1 one of the separate ones that came before. */
  version: 1 | 2;
  /** Where it is mounted. */
  path: string;
  controls: readonly GroupControl[];
}

const controlsOf: Record<string, readonly GroupControl[]> = {
  cpu: ["cpus"],
  memory: ["memory"],
  io: ["io"],
};

/**
 * Reads the table of mounts (/proc/mounts). In a hybrid the unified hierarchy has only the controllers that no
 * hierarchy of version 1 has taken.
 *
 * I/O counts with version 2 alone: version 1 (blkio) does not see what is written by way of the page cache
 * (kernel: Documentation/admin-guide/cgroup-v1/blkio-controller.rst), and that is how machines write.
 *
 * @param unifiedControllers what the unified hierarchy's cgroup.controllers says, by mount point.
 */
export function groupLayout(mounts: string, unifiedControllers: (path: string) => string): Hierarchy[] {
  const found: Hierarchy[] = [];
  const taken = new Set<GroupControl>();
  for (const line of mounts.split("\n")) {
    const [, path = "", type, options = ""] = line.split(" ");
    const version = type === "cgroup" ? 1 : type === "cgroup2" ? 2 : undefined;
    if (version === undefined) continue;
    const names =
      version === 2
        ? unifiedControllers(path).trim().split(/\s+/)
        : options.split(",").filter((name) => name === "cpu" || name === "memory");
    const controls = names.flatMap((name) => controlsOf[name] ?? []).filter((control) => !taken.has(control));
    if (controls.length === 0) continue;
    for (const control of controls) taken.add(control);
    found.push({ version, path, controls });
  }
  return found;
}
