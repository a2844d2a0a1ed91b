import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/**
 * What a running spored says about itself in `$SPORELET_HOME/spored.json`. The file appears, whole, once
 * spored answers on the socket, and goes before it stops answering.
 */
export interface NodeRecord {
  pid: number;
  /** Field 22 of /proc/PID/stat: a pid that was reused does not match. */
  startTicks: number;
  /** Unix socket on which the node API is served. */
  socket: string;
  version: string;
}

/**
 * Where Sporelet keeps its state: SPORELET_HOME, else `/var/lib/sporelet` for root, else `sporelet` in the
 * user's data directory (XDG base directory specification).
 */
export function sporeletHome(env: NodeJS.ProcessEnv = process.env): string {
  if (env.SPORELET_HOME) return path.resolve(env.SPORELET_HOME);
  if (process.getuid?.() === 0) return "/var/lib/sporelet";
  return path.join(env.XDG_DATA_HOME || path.join(env.HOME ?? os.homedir(), ".local/share"), "sporelet");
}

/** The file in which the spored of `home` is found. */
export function nodeRecordPath(home: string): string {
  return path.join(home, "spored.json");
}

/**
 * The spored that serves `home`, or undefined when none runs. A record whose process is gone counts as none.
 */
export function locateNode(home: string): NodeRecord | undefined {
  let record: NodeRecord;
  try {
    record = JSON.parse(readFileSync(nodeRecordPath(home), "utf8")) as NodeRecord;
  } catch {
    // Absent; or cut short by a crash of the host, which no rename survives half-written otherwise.
    return undefined;
  }
  return startTicksOf(record.pid) === record.startTicks ? record : undefined;
}

/** Field 22 of /proc/PID/stat (proc(5)); undefined when there is no such process, or only its exit status. */
export function startTicksOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in field 2 may hold spaces and parentheses; field 3 follows the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}
