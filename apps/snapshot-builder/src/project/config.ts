/** `sporelet.yaml`: what a snapshot is made of beyond its Compose file. Described in docs/sporelet-yaml.md. */
import type { Warmup } from "@sporelet/compose-preheater";
import { type Located, parseYaml } from "./located.ts";

export interface ProjectConfig {
  machine: MachineConfig;
  /** Path of the Compose file relative to the project; undefined: the usual names are tried. */
  compose: string | undefined;
  images: ImageConfig[];
  warmup: Warmup[];
  /** Paths relative to the project, in the order in which they run (reversed before the freeze). */
  hooks: { beforeFreeze: string[]; afterResume: string[] };
  /** Guest ports worth publishing; undefined: those that the Compose file publishes. */
  ports: number[] | undefined;
  timeouts: { upMs: number; healthyMs: number; hookMs: number };
}

interface MachineConfig {
  cpus: number;
  memoryBytes: number;
  diskBytes: number;
}

export type ImageConfig = { name: string; at: Located } & ImageSource;

export type ImageSource =
  | ({ kind: "packages" } & PackageImage)
  | { kind: "archive"; path: string }
  | { kind: "layout"; path: string }
  | { kind: "registry"; tls: boolean };

/** An image made from Debian packages alone. */
export interface PackageImage {
  packages: string[];
  /**
   * Whether the packages' own scripts run, on top of Debian's essential packages. Without, the image holds the
   * packages and what they depend on, unpacked: far smaller, and enough for programs that need no set-up.
   */
  configure: boolean;
  /** Globs of paths that are left out. */
  exclude: string[];
  files: { source: string; target: string; mode: number }[];
  command: string[];
  entrypoint: string[];
  env: Record<string, string>;
  workdir: string;
  user: string;
  expose: number[];
}

const MiB = 1024 ** 2;
/** The root file system and room for images. */
export const minDiskBytes = 1024 * MiB;
/** With 160 MiB docker-compose did not get a container created within five minutes. */
const minMemoryBytes = 256 * MiB;

export const defaultConfig: ProjectConfig = {
  machine: { cpus: 1, memoryBytes: 1024 * MiB, diskBytes: 4096 * MiB },
  compose: undefined,
  images: [],
  warmup: [],
  hooks: { beforeFreeze: [], afterResume: [] },
  ports: undefined,
  timeouts: { upMs: 300_000, healthyMs: 180_000, hookMs: 10_000 },
};

/**
 * @param file what to call the file in errors
 * @throws SporeletError `invalid_argument` with line and column
 */
export function parseConfig(text: string, file: string): ProjectConfig {
  const root = parseYaml(text, file).members([
    "machine",
    "compose",
    "images",
    "warmup",
    "hooks",
    "ports",
    "timeouts",
  ]);
  const hooks = root.get("hooks")?.members(["before-freeze", "after-resume"]);
  const timeouts = root.get("timeouts")?.members(["up", "healthy", "hook"]);
  const fallback = defaultConfig;
  const images = root.get("images")?.items().map(image) ?? [];
  for (const [index, { name, at }] of images.entries()) {
    if (images.findIndex((other) => other.name === name) < index) at.fail(`the image ${name} is there twice`);
  }
  return {
    machine: machine(root.get("machine")),
    compose: root.get("compose") && relativePath(root.get("compose")),
    images,
    warmup: root.get("warmup")?.items().map(warmup) ?? [],
    hooks: {
      beforeFreeze: hooks?.get("before-freeze")?.items().map(relativePath) ?? [],
      afterResume: hooks?.get("after-resume")?.items().map(relativePath) ?? [],
    },
    ports: root.get("ports")?.items().map(port),
    timeouts: {
      upMs: timeouts?.get("up")?.durationMs() ?? fallback.timeouts.upMs,
      healthyMs: timeouts?.get("healthy")?.durationMs() ?? fallback.timeouts.healthyMs,
      hookMs: timeouts?.get("hook")?.durationMs() ?? fallback.timeouts.hookMs,
    },
  };
}

function machine(at: Located | undefined): MachineConfig {
  const members = at?.members(["cpus", "memory", "disk"]);
  const { cpus, memoryBytes, diskBytes } = defaultConfig.machine;
  return {
    cpus: members?.get("cpus")?.integer({ min: 1, max: 64 }) ?? cpus,
    memoryBytes: size(members?.get("memory"), minMemoryBytes) ?? memoryBytes,
    diskBytes: size(members?.get("disk"), minDiskBytes) ?? diskBytes,
  };
}

/** Whole MiB, which every VMM can give a guest and every file system can fill. */
function size(at: Located | undefined, minBytes: number): number | undefined {
  const bytes = at?.bytes();
  if (at === undefined || bytes === undefined) return undefined;
  if (bytes < minBytes) at.fail(`${at.path} is less than the ${minBytes / MiB}MiB that a guest needs`);
  if (bytes % MiB !== 0) at.fail(`${at.path} must be a multiple of 1MiB`);
  return bytes;
}

const packageKeys = [
  "configure",
  "exclude",
  "files",
  "command",
  "entrypoint",
  "env",
  "workdir",
  "user",
  "expose",
];

function image(at: Located): ImageConfig {
  const members = at.members(["name", "packages", ...packageKeys, "archive", "layout", "tls"]);
  const name = (members.get("name") ?? at.fail("an image needs a name")).string();
  const sources = ["packages", "archive", "layout"].filter((key) => members.has(key));
  if (sources.length > 1) at.fail(`the image ${name} has more than one source: ${sources.join(", ")}`);
  const stray = packageKeys.find((key) => members.has(key) && !members.has("packages"));
  if (stray !== undefined) {
    members.get(stray)?.fail(`${stray} is only for images that are built here`, "add: packages: [...]");
  }
  const tls = members.get("tls");
  if (tls !== undefined && sources.length > 0) tls.fail("tls is only for images from a registry");
  const [source] = sources;
  if (source === "packages") return { name, at, kind: "packages", ...packageImage(members) };
  if (source === "archive") return { name, at, kind: "archive", path: relativePath(members.get("archive")) };
  if (source === "layout") return { name, at, kind: "layout", path: relativePath(members.get("layout")) };
  return { name, at, kind: "registry", tls: tls?.boolean() ?? true };
}

function packageImage(members: Map<string, Located>): PackageImage {
  return {
    packages: members.get("packages")?.items().map(packageName) ?? [],
    configure: members.get("configure")?.boolean() ?? true,
    exclude: strings(members.get("exclude")),
    files: members.get("files")?.items().map(imageFile) ?? [],
    command: strings(members.get("command")),
    entrypoint: strings(members.get("entrypoint")),
    env: stringMap(members.get("env")),
    workdir: members.get("workdir")?.string() ?? "/",
    user: members.get("user")?.string() ?? "",
    expose: members.get("expose")?.items().map(port) ?? [],
  };
}

/** Debian Policy 5.6.1, so that nothing else reaches apt's command line. */
function packageName(at: Located): string {
  const name = at.string();
  return /^[a-z0-9][a-z0-9+.-]+$/.test(name) ? name : at.fail(`"${name}" is no name of a Debian package`);
}

function imageFile(at: Located): PackageImage["files"][number] {
  const members = at.members(["source", "target", "mode"]);
  const source = relativePath(members.get("source") ?? at.fail("a file needs a source"));
  const targetAt = members.get("target") ?? at.fail("a file needs a target");
  const target = targetAt.string();
  if (!target.startsWith("/") || target.endsWith("/") || target.split("/").includes("..")) {
    targetAt.fail(`target must be the absolute path of a file, not "${target}"`);
  }
  const modeAt = members.get("mode");
  const mode = modeAt?.string().replace(/^0o/, "");
  if (mode !== undefined && !/^[0-7]{3,5}$/.test(mode))
    modeAt?.fail(`mode must be octal such as 0755, not "${mode}"`);
  return { source, target, mode: mode === undefined ? 0o644 : Number.parseInt(mode, 8) };
}

function warmup(at: Located): Warmup {
  const members = at.members(["command", "service", "http", "timeout", "times"]);
  const timeoutMs = members.get("timeout")?.durationMs() ?? 60_000;
  const command = members.get("command");
  const http = members.get("http");
  if ((command === undefined) === (http === undefined)) at.fail("a warm-up needs either a command or http");
  const outerTimes = members.get("times")?.integer({ min: 1, max: 100_000 });
  if (command !== undefined) {
    const argv = strings(command);
    if (argv.length === 0) command.fail("the command is empty");
    return {
      kind: "command",
      argv,
      service: members.get("service")?.string(),
      times: outerTimes ?? 1,
      timeoutMs,
    };
  }
  const request = http?.members(["url", "status", "times", "method", "body", "headers"]);
  const urlAt = request?.get("url") ?? at.fail("http needs a url");
  const url = urlAt.string();
  if (!URL.canParse(url) || new URL(url).protocol !== "http:") urlAt.fail(`"${url}" is no http URL`);
  return {
    kind: "http",
    url,
    status: request?.get("status")?.integer({ min: 100, max: 599 }) ?? 200,
    times: request?.get("times")?.integer({ min: 1, max: 100_000 }) ?? outerTimes ?? 1,
    method: request?.get("method")?.string() ?? "GET",
    body: request?.get("body")?.string() ?? "",
    headers: stringMap(request?.get("headers")),
    timeoutMs,
  };
}

/** A path inside the project, relative to it. */
function relativePath(at: Located | undefined): string {
  const path = at?.string() ?? "";
  const clean = path.replace(/^(\.\/)+/, "");
  if (clean === "" || clean.startsWith("/") || clean.startsWith("~") || clean.split("/").includes("..")) {
    at?.fail(
      `"${path}" is no path inside the project`,
      "use a relative path of a file below the project's directory",
    );
  }
  return clean;
}

function port(at: Located): number {
  return at.integer({ min: 1, max: 65535 });
}

function strings(at: Located | undefined): string[] {
  return at?.items().map((item) => item.string()) ?? [];
}

function stringMap(at: Located | undefined): Record<string, string> {
  return Object.fromEntries([...(at?.members() ?? [])].map(([name, value]) => [name, value.string()]));
}
