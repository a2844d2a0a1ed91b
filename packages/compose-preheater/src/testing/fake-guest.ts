import { PassThrough } from "node:stream";
import type { InspectedContainer } from "../containers.ts";
import type { Guest, GuestResult } from "../guest.ts";

/** A container as docker inspect shows it: running, healthy, never restarted, unless told otherwise. */
export function container(
  service: string,
  state: Partial<InspectedContainer["State"]> = {},
  more: { restarts?: number; policy?: string } = {},
): InspectedContainer {
  return {
    Id: `id-${service}`,
    Name: `/shop_${service}_1`,
    RestartCount: more.restarts ?? 0,
    State: { Status: "running", ExitCode: 0, OOMKilled: false, Error: "", ...state },
    Config: { Labels: { "com.docker.compose.service": service } },
    HostConfig: { RestartPolicy: { Name: more.policy ?? "no" } },
  };
}

export interface FakeGuest extends Guest {
  /** What was run, in order. */
  readonly commands: string[];
  /** What docker inspect says from now on; whoever follows events hears of it. */
  show(...containers: InspectedContainer[]): void;
  /** What docker events writes. */
  event(line: string): void;
}

export interface FakeGuestOptions {
  containers?: InspectedContainer[];
  /** Answer to a command; undefined: exit code 0 and no output. */
  answer?: (argv: string[]) => Partial<GuestResult> | undefined;
}

/** dockerd's part of a guest, for what the real one does not do on demand. */
export function fakeGuest({ containers = [], answer }: FakeGuestOptions = {}): FakeGuest {
  const commands: string[] = [];
  const followers = new Set<(line: string) => void>();
  let shown = containers;
  return {
    commands,
    show(...next) {
      shown = next;
      for (const follower of followers) follower("start id");
    },
    event(line) {
      for (const follower of followers) follower(line);
    },
    async exec(argv, { signal, onLine }) {
      signal.throwIfAborted();
      commands.push(argv.join(" "));
      if (argv[1] === "events") {
        const follower = (line: string) => onLine?.("stdout", line);
        followers.add(follower);
        return new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            followers.delete(follower);
            reject(signal.reason);
          });
        });
      }
      if (argv[3] === "inspect") return { code: 0, stdout: JSON.stringify(shown), stderr: "" };
      const { code = 0, stdout = "", stderr = "" } = answer?.(argv) ?? {};
      for (const line of stdout.split("\n").filter(Boolean)) onLine?.("stdout", line);
      for (const line of stderr.split("\n").filter(Boolean)) onLine?.("stderr", line);
      return { code, stdout, stderr };
    },
    connect: () => new PassThrough(),
  };
}
