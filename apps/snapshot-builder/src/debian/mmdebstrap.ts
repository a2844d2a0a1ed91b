/** Debian root file systems by mmdebstrap, which verifies packages as apt does. */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import { guestSources, suite } from "./sources.ts";

export interface BootstrapOptions {
  /**
   * - `minbase`: the essential packages and apt, configured.
   * - `essential`: the essential packages, configured.
   * - `extract`: nothing but the named packages and what they need, unpacked; no maintainer script runs.
   */
  variant: "minbase" | "essential" | "extract";
  packages: readonly string[];
  /** Globs of absolute paths that are left out (dpkg's path-exclude). */
  exclude?: readonly string[];
  /** Shell commands that run on the host when all is installed, the root directory being `$1`. */
  hooks?: readonly string[];
  /** A new directory, or a file ending in `.tar`. */
  target: string;
  /** Existing directory for mmdebstrap's working tree. */
  scratch: string;
  signal?: AbortSignal | undefined;
  onProgress?: (fraction: number, line: string) => void;
  onLine?: (line: string) => void;
}

/** Documentation and translations: of no use in a guest that nobody logs into. */
const needless = [
  "/usr/share/doc/*",
  "/usr/share/man/*",
  "/usr/share/info/*",
  "/usr/share/locale/*",
  "/usr/share/lintian/*",
  "/usr/share/bug/*",
];

/** Share of the whole time that has gone by when mmdebstrap says that it begins this. */
const milestones: [RegExp, number][] = [
  [/running apt-get update/, 0.02],
  [/downloading packages/, 0.12],
  [/extracting archives/, 0.25],
  [/installing essential packages/, 0.32],
  [/installing remaining packages/, 0.5],
  [/cleaning package lists/, 0.93],
];

const timeoutMs = 1_200_000;

/**
 * @throws SporeletError `not_found` when there is no package of a given name, `unsupported` without
 *   mmdebstrap, otherwise with the tail of its log
 */
export async function bootstrap(options: BootstrapOptions): Promise<void> {
  const scratch = await mkdtemp(join(options.scratch, "mmdebstrap-"));
  const tail: string[] = [];
  const onLine = (_: string, line: string) => {
    tail.push(line);
    if (tail.length > 200) tail.shift();
    options.onLine?.(line);
    const fraction = milestones.find(([pattern]) => pattern.test(line))?.[1];
    if (fraction !== undefined) options.onProgress?.(fraction, line.replace(/^I: /, "").replace(/\.+$/, ""));
  };
  // mmdebstrap lays /usr out merged; that package says so, and spares the one that would do it, with all of perl.
  const packages = ["usr-is-merged", ...options.packages];
  const argv = [
    "mmdebstrap",
    `--variant=${options.variant}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    ...[...needless, ...(options.exclude ?? [])].map((path) => `--dpkgopt=path-exclude=${path}`),
    `--include=${packages.join(",")}`,
    ...(options.hooks ?? []).map((hook) => `--customize-hook=${hook}`),
    suite,
    options.target,
    "-",
  ];
  try {
    await runProcess(argv, {
      operation: "install Debian packages",
      stdin: Buffer.from(`${(await guestSources()).join("\n")}\n`),
      // The epoch makes mmdebstrap's tar files the same each time; TMPDIR is where its working tree goes.
      env: { ...process.env, SOURCE_DATE_EPOCH: "0", TMPDIR: scratch, LC_ALL: "C.UTF-8" },
      signal: options.signal,
      timeoutMs,
      killGraceMs: 15_000,
      onLine,
    });
  } catch (error) {
    throw missingPackage(tail, error) ?? error;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** apt: "E: Unable to locate package NAME", "E: Package 'NAME' has no installation candidate". */
function missingPackage(log: string[], cause: unknown): SporeletError | undefined {
  const text = log.join("\n");
  const name = /Unable to locate package (\S+)|Package '([^']+)' has no installation candidate/.exec(text);
  if (name === null) return undefined;
  return new SporeletError({
    code: "not_found",
    operation: "install the Debian package",
    subject: name[1] ?? name[2],
    reason: `Debian's ${suite} has no package of that name`,
    hint: "packages are listed at https://packages.debian.org/bookworm/",
    cause,
  });
}
