/**
 * Packages out of Debian's archive, without installing them on the host. apt itself checks them: the index
 * against the archive's signature, the file against the index.
 */
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";

export interface PackageVersion {
  name: string;
  version: string;
}

const fetchTimeoutMs = 300_000;
/** Somebody else may fetch the index: apt waits for dpkg's lock, but not for that of its lists. */
const lockRetryMs = 1_000;

/**
 * The version of a package that apt would take.
 * @param options.onLine gets what apt says when the index has to be fetched first
 * @throws SporeletError `not_found` when the archive has no such package
 */
export async function candidate(
  name: string,
  options: { signal?: AbortSignal | undefined; onLine?: (line: string) => void },
): Promise<PackageVersion & { depends: string[] }> {
  let found = await show(name, options);
  if (found === undefined) {
    await updateIndex(options);
    found = await show(name, options);
  }
  if (found !== undefined) return found;
  throw new SporeletError({
    code: "not_found",
    operation: "find the Debian package",
    subject: name,
    reason: "apt knows no package of that name",
    hint: "check /etc/apt/sources.list and run: apt-get update",
  });
}

async function show(name: string, { signal }: { signal?: AbortSignal | undefined }) {
  const { stdout, code } = await runProcess(["apt-cache", "show", "--no-all-versions", name], {
    operation: "look up a Debian package",
    ok: [0, 100],
    timeoutMs: 60_000,
    signal,
  });
  const version = /^Version: (.+)$/m.exec(stdout)?.[1];
  if (code !== 0 || version === undefined) return undefined;
  const depends = /^Depends: (.+)$/m.exec(stdout)?.[1] ?? "";
  return { name, version, depends: depends.split(",").map((one) => one.trim().replace(/[ (|:].*$/, "")) };
}

async function updateIndex({
  signal,
  onLine,
}: {
  signal?: AbortSignal | undefined;
  onLine?: (line: string) => void;
}) {
  const deadline = performance.now() + fetchTimeoutMs;
  for (;;) {
    try {
      await runProcess(["apt-get", "-q", "update"], {
        operation: "fetch Debian's package index",
        timeoutMs: fetchTimeoutMs,
        signal,
        onLine: (_, line) => onLine?.(line),
      });
      return;
    } catch (error) {
      const locked =
        error instanceof SporeletError && /Could not get lock|Unable to lock/.test(error.log ?? "");
      if (!locked || performance.now() > deadline) throw error;
      await delay(lockRetryMs, undefined, { signal });
    }
  }
}

/**
 * Fetches one package and unpacks its files into a directory that is gone when the result is disposed of.
 * @param scratch existing directory in which that directory is made
 */
export async function unpackPackage(
  { name, version }: PackageVersion,
  scratch: string,
  options: { signal?: AbortSignal | undefined; onLine?: (line: string) => void },
): Promise<AsyncDisposable & { root: string }> {
  await using cleanup = new AsyncDisposableStack();
  const directory = await mkdtemp(join(scratch, "deb-"));
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));
  const root = join(directory, "root");
  await mkdir(root);
  const run = (argv: string[]) =>
    runProcess(argv, {
      operation: `fetch the Debian package ${name}`,
      cwd: directory,
      timeoutMs: fetchTimeoutMs,
      signal: options.signal,
      onLine: (_, line) => options.onLine?.(line),
    });
  // Without a sandbox user: that one could not write into our directory.
  const download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", `${name}=${version}`];
  try {
    await run(download);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    // The archive keeps only the newest version; an index from before that names a file that is gone.
    await updateIndex(options);
    const fresh = await candidate(name, options);
    await run([...download.slice(0, -1), `${name}=${fresh.version}`]);
  }
  const file = (await readdir(directory)).find((entry) => entry.endsWith(".deb"));
  await run(["dpkg-deb", "-x", join(directory, file ?? ""), root]);
  const owned = cleanup.move();
  return { root, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
