import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const top = join(import.meta.dirname, "../../../..");
const program = join(top, ".tools/docker-registry/usr/bin/docker-registry");
const startTimeoutMs = 20_000;

export interface DockerRegistryOptions {
  /** Where it keeps its data, which stays when it ends. Default: a temporary directory. */
  directory?: string;
  /** Address of a registry that it is a pull-through cache of, `http://host:port`. Default: none. */
  mirror?: string;
  /** More of its configuration, as YAML lines at the top level: `auth: …`. */
  config?: string;
  /** Certificate and key in PEM files: HTTPS. Default: plain HTTP. */
  tls?: { certFile: string; keyFile: string };
}

export interface DockerRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  readonly directory: string;
  /** Ends it at once, as a crash would. Disposing does so too. */
  kill(): Promise<void>;
}

/** Why tests cannot start Debian's docker-registry here; undefined when they can. */
export function whyNoDockerRegistry(): string | undefined {
  return existsSync(program)
    ? undefined
    : "docker-registry is not here: tools/setup --with-test-tools unpacks it";
}

/** Debian's docker-registry (distribution 2.8) on a free loopback port. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  const temporary = await mkdtemp(join(tmpdir(), "sporelet-registry-"));
  const directory = options.directory ?? join(temporary, "data");
  await mkdir(directory, { recursive: true });
  const file = join(temporary, "config.yml");
  await writeFile(file, configuration(directory, options));
  // The secret is the same in every run, so that uploads can go on after a restart.
  const env = { ...process.env, REGISTRY_HTTP_SECRET: "only for tests" };
  const child = spawn(program, ["serve", file], { stdio: ["ignore", "ignore", "pipe"], env });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  // Should the test's process end without disposing, the registry must not outlive it.
  const killNow = () => void child.kill("SIGKILL");
  process.once("exit", killNow);
  const kill = async (): Promise<void> => {
    process.off("exit", killNow);
    killNow();
    await ended;
    await rm(temporary, { recursive: true, force: true });
  };
  try {
    return { address: await listening(child), directory, kill, [Symbol.asyncDispose]: kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

function configuration(directory: string, { mirror, tls, config = "" }: DockerRegistryOptions): string {
  const certificate = tls === undefined ? "" : `, tls: { certificate: ${tls.certFile}, key: ${tls.keyFile} }`;
  return `version: 0.1
log: { level: info, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${JSON.stringify(directory)} }, delete: { enabled: true } }
http: { addr: "127.0.0.1:0"${certificate} }
${mirror === undefined ? "" : `proxy: { remoteurl: ${JSON.stringify(mirror)} }\n`}${config}
`;
}

/** It logs where it listens: `msg="listening on 127.0.0.1:40123"`. */
async function listening(child: ChildProcess): Promise<string> {
  if (child.stderr === null) throw new TypeError("its stderr is a pipe");
  const lines = createInterface({ input: child.stderr });
  const log: string[] = [];
  return new Promise((resolve, reject) => {
    const fail = (reason: string) =>
      reject(new Error(`docker-registry ${reason}\n${log.slice(-10).join("\n")}`));
    const timer = setTimeout(() => fail("does not listen"), startTimeoutMs);
    lines.on("line", (line) => {
      const address = /listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
      if (address !== undefined) {
        clearTimeout(timer);
        log.length = 0;
        resolve(address);
      }
      if (log.length < 1000) log.push(line);
    });
    child.once("error", (error) => fail(error.message));
    child.once("close", () => {
      clearTimeout(timer);
      fail("ended");
    });
  });
}
