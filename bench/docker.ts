/**
 * The alternative that people have today: `docker run` of the service's own image on the same host, without a machine
 * around it. Debian's dockerd, unpacked by `tools/setup --with-bench-tools`, with everything of its own in one
 * directory, so that a Docker of the host's is neither used nor touched.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";

const unpacked = join(import.meta.dirname, "../.tools/docker/usr");
const bridge = "sporebench0";
const startSeconds = 60;

export interface Docker extends AsyncDisposable {
  /** Starts a container. @returns its id */
  run(options: ContainerOptions): Promise<string>;
  /** IPv4 address of a container on the bridge. */
  address(id: string): Promise<string>;
  remove(id: string): Promise<void>;
}

interface ContainerOptions {
  image: string;
  command?: string[];
  environment?: string[];
  /** Port of the container, and that of the host's loopback which leads to it. */
  publish?: { container: number; host: number };
}

/** @param archives images, as `docker save` writes them */
export async function startDocker(archives: string[]): Promise<Docker> {
  const program = join(unpacked, "sbin/dockerd");
  if (!existsSync(program)) throw new Error("Docker is not here: tools/setup --with-bench-tools unpacks it");
  const home = await mkdtemp(join(tmpdir(), "bench-docker-"));
  const socket = join(home, "docker.sock");
  // Not the host's.
  const settings = join(home, "daemon.json");
  await writeFile(settings, "{}");
  execFileSync("ip", ["link", "add", bridge, "type", "bridge"]);
  execFileSync("ip", ["address", "add", "10.213.77.1/24", "dev", bridge]);
  const daemon = spawn(
    program,
    [
      ...["--host", `unix://${socket}`, "--data-root", join(home, "data"), "--exec-root", join(home, "run")],
      ...["--pidfile", join(home, "pid"), "--config-file", settings, "--bridge", bridge],
      // The host's packet filter is left alone: ports are published by docker-proxy.
      ...["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--storage-driver", "overlay2"],
      ...["--userland-proxy-path", join(unpacked, "sbin/docker-proxy"), "--log-level", "error"],
    ],
    {
      env: { ...process.env, PATH: `${join(unpacked, "sbin")}:${join(unpacked, "bin")}:${process.env.PATH}` },
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let log = "";
  daemon.stderr.on("data", (bytes) => {
    log += bytes;
  });
  const exited = once(daemon, "exit");
  const api = engine(socket);
  const containers = new Set<string>();

  const remove = async (id: string) => {
    await api("DELETE", `/containers/${id}?force=1&v=1`);
    containers.delete(id);
  };
  const end = async () => {
    for (const id of containers) await remove(id).catch(() => {});
    daemon.kill("SIGTERM");
    await exited;
    execFileSync("ip", ["link", "delete", bridge]);
    await rm(home, { recursive: true, force: true });
  };
  try {
    const deadline = performance.now() + startSeconds * 1000;
    for (;;) {
      if (daemon.exitCode !== null) throw new Error(`dockerd ended: ${log}`);
      const up = await api("GET", "/_ping").then(
        () => true,
        () => false,
      );
      if (up) break;
      if (performance.now() > deadline) throw new Error(`dockerd did not answer: ${log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (const archive of archives) await api("POST", "/images/load", { file: archive });
  } catch (error) {
    await end();
    throw error;
  }
  return {
    async run({ image, command, environment = [], publish }) {
      const port = `${publish?.container}/tcp`;
      const created = await api("POST", "/containers/create", {
        json: {
          Image: image,
          Cmd: command,
          Env: environment,
          ...(publish !== undefined && {
            ExposedPorts: { [port]: {} },
            HostConfig: {
              PortBindings: { [port]: [{ HostIp: "127.0.0.1", HostPort: `${publish.host}` }] },
            },
          }),
        },
      });
      const { Id: id } = JSON.parse(created) as { Id: string };
      containers.add(id);
      await api("POST", `/containers/${id}/start`);
      return id;
    },
    async address(id) {
      const container = JSON.parse(await api("GET", `/containers/${id}/json`)) as {
        NetworkSettings: { Networks: Record<string, { IPAddress: string }> };
      };
      return Object.values(container.NetworkSettings.Networks)[0]?.IPAddress ?? "";
    },
    remove,
    [Symbol.asyncDispose]: end,
  };
}

/** A port of the loopback that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/**
 * The archives that builds of the demo's snapshot made of its images, the latest last.
 * @param store where the store is mounted
 */
export async function imageArchives(store: string): Promise<string[]> {
  const directory = join(store, "cache/image");
  const entries = await readdir(directory);
  const archives = await Promise.all(
    entries.map(async (entry) => {
      const path = join(directory, entry, "image.tar");
      return { path, builtAt: (await stat(path)).mtimeMs };
    }),
  );
  return archives.sort((one, other) => one.builtAt - other.builtAt).map(({ path }) => path);
}

type Engine = (method: string, path: string, body?: { json?: unknown; file?: string }) => Promise<string>;

/** The Engine's API. What the docker command does between its own start and its end. */
function engine(socketPath: string): Engine {
  return async (method, path, body = {}) => {
    const call = request({ socketPath, method, path: `/v1.41${path}`, agent: false });
    const answered = once(call, "response") as Promise<[IncomingMessage]>;
    answered.catch(() => {});
    if (body.file !== undefined) {
      call.setHeader("Content-Type", "application/x-tar");
      await pipeline(createReadStream(body.file), call);
    } else if (body.json !== undefined) {
      call.setHeader("Content-Type", "application/json");
      call.end(JSON.stringify(body.json));
    } else call.end();
    const [response] = await answered;
    const answer = await text(response);
    if ((response.statusCode ?? 500) >= 400) throw new Error(`Docker: ${method} ${path}: ${answer}`);
    return answer;
  };
}
