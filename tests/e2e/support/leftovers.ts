import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { ownerOf, runtimeDirectoryOf } from "@sporelet/host";

const run = promisify(execFile);

/** What Sporelet could leave behind on a host, each as a line that says what it is. Sorted. */
export async function traces(home: string): Promise<string[]> {
  const found = await Promise.all([
    processes(home),
    namespaces(home),
    mounts(home),
    loops(home),
    files(home),
    tables(),
  ]);
  return found.flat().sort();
}

/**
 * Processes that work below the home: VMMs, builders, helpers. spored itself is not one of them, nor is the fstrim(8) that
 * it runs now and then to give back what the store's volume does not need any more.
 */
async function processes(home: string): Promise<string[]> {
  const lines: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""))
      .replaceAll("\0", " ")
      .trim();
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => "");
    const ours =
      command.includes(`${home}/`) ||
      command.includes(runtimeDirectoryOf(home)) ||
      cwd.startsWith(`${home}/`);
    const spored = /spored(\.mjs)?( |$)/.test(command) || command === `fstrim ${join(home, "store")}`;
    if (!ours || spored || Number(pid) === process.pid) continue;
    lines.push(`process ${pid}: ${command.slice(0, 200)}`);
  }
  return lines;
}

/** How many namespaces spored keeps ready; they are part of a running spored, and made anew in the background. */
const spareNamespaces = 4;

async function namespaces(home: string): Promise<string[]> {
  const prefix = `spore-${ownerOf(home)}-`;
  const names = (await readdir("/run/netns").catch(() => [])).filter((name) => name.startsWith(prefix));
  if (names.length <= spareNamespaces) return [];
  return [`${names.length - spareNamespaces} network namespaces more than are kept ready`];
}

async function mounts(home: string): Promise<string[]> {
  const lines = (await readFile("/proc/self/mounts", "utf8")).split("\n");
  return lines.filter((line) => line.split(" ")[1]?.startsWith(home)).map((line) => `mount ${line}`);
}

async function loops(home: string): Promise<string[]> {
  const { stdout } = await run("losetup", ["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]);
  return stdout
    .split("\n")
    .filter((line) => line.includes(home))
    .map((line) => `loop device ${line.trim()}`);
}

/** Temporary files and half-made machines in the store, sockets in the runtime directory. */
async function files(home: string): Promise<string[]> {
  const places = ["store/tmp", "store/machines"].map((place) => join(home, place));
  const listed = await Promise.all(
    places.map(async (place) =>
      (await readdir(place).catch(() => [])).map((name) => `file ${join(place, name)}`),
    ),
  );
  const sockets = await readdir(runtimeDirectoryOf(home)).catch(() => []);
  return [
    ...listed.flat(),
    ...sockets.filter((name) => !name.startsWith("spored")).map((name) => `socket ${name}`),
  ];
}

/** The host's table serves all homes: it is left over when no namespace of any of them is there. */
async function tables(): Promise<string[]> {
  const names = await readdir("/run/netns").catch(() => []);
  if (names.some((name) => name.startsWith("spore-"))) return [];
  const { stdout } = await run("nft", ["list", "tables"]).catch(() => ({ stdout: "" }));
  return stdout.split("\n").filter((line) => line.includes("sporelet"));
}
