import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import {
  type AgentClient,
  type AgentConnection,
  connectAgent,
  firstContact,
  type HelloInit,
} from "../agent-client.ts";
import { HelloKind } from "../gen/sporelet/agent/v1/agent_pb.ts";

const repository = path.resolve(import.meta.dirname, "../../../..");

/** The agent as an ordinary process that serves on a Unix socket and keeps its identity below `root`. */
export interface TestAgent extends AsyncDisposable {
  /** Stands for `/` in the files that first contact writes and in the hooks' directory. */
  readonly root: string;
  /** Scratch space beside it. */
  readonly directory: string;
  readonly process: ChildProcess;
  dial(): Promise<net.Socket>;
  /** First contact, then a client. */
  connect(hello?: HelloInit): Promise<AgentConnection & { client: AgentClient }>;
}

/** Builds the agent if need be and starts it. */
export async function startAgent(): Promise<TestAgent> {
  await promisify(execFile)(path.join(repository, "tools/build-agent"));
  const directory = await mkdtemp(path.join(os.tmpdir(), "sporelet-agent-"));
  const root = path.join(directory, "root");
  const socket = path.join(directory, "agent.sock");
  const child = spawn(
    path.join(repository, "dist/agent"),
    ["-listen", `unix:${socket}`, "-root", root, "-services"],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await listening(child);
  const dial = () => dialUnix(socket);
  return {
    root,
    directory,
    process: child,
    dial,
    async connect(hello = {}) {
      const channel = await dial();
      await firstContact(channel, { kind: HelloKind.BOOT, ...hello });
      return connectAgent(channel);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await exited;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The agent says on stderr when it can be reached. */
function listening(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      log += text;
      if (log.includes("waits for its host")) resolve();
    });
    child.once("exit", (code) => reject(new Error(`the agent ended with code ${code}: ${log}`)));
  });
}

function dialUnix(socket: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const channel = net.connect(socket, () => {
      channel.off("error", reject);
      resolve(channel);
    });
    channel.once("error", reject);
  });
}
