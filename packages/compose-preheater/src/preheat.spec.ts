import { SporeletError } from "@sporelet/errors";
import { describe, expect, it } from "vitest";
import { type PreheatOptions, preheat } from "./preheat.ts";
import { container, type FakeGuestOptions, fakeGuest } from "./testing/fake-guest.ts";

const healthy = { Health: { Status: "healthy" } };
const starting = { Health: { Status: "starting" } };

function setUp(options: FakeGuestOptions & Partial<PreheatOptions>) {
  const guest = fakeGuest(options);
  const events: string[] = [];
  const kept: Record<string, string>[] = [];
  const run = () =>
    preheat({
      guest,
      project: "shop",
      compose: ["compose"],
      warmup: [],
      timeouts: { upMs: 10_000, healthyMs: 10_000 },
      signal: new AbortController().signal,
      console: async () => "",
      keepLogs: async (logs) => {
        kept.push(logs);
        return "/logs/x";
      },
      ...options,
      onEvent: (event) => {
        if (event.phase !== "log") events.push(`${event.phase} ${event.state} ${event.detail}`.trim());
      },
    });
  return { guest, events, kept, run };
}

async function failure(run: () => Promise<unknown>): Promise<SporeletError> {
  const error = await run().then(
    () => new Error("it did not fail"),
    (thrown: unknown) => thrown,
  );
  if (error instanceof SporeletError) return error;
  throw error;
}

describe("preheating a project", () => {
  it("ends when every container is healthy and every warm-up is done", async () => {
    const { run, guest, events } = setUp({
      containers: [container("redis", healthy), container("api", healthy)],
      warmup: [{ kind: "command", argv: ["curl", "x"], service: "api", times: 2, timeoutMs: 1000 }],
    });
    expect((await run()).services).toEqual(["api", "redis"]);
    expect(guest.commands.filter((one) => one.startsWith("compose"))).toEqual([
      "compose up -d --no-build --remove-orphans",
      "compose exec -T api curl x",
      "compose exec -T api curl x",
    ]);
    expect(events.at(-1)).toBe("warm done");
  });

  it("starts nothing that the guest started itself, and waits for it all the same", async () => {
    const { run, guest, events } = setUp({ containers: [container("api", starting)], started: true });
    const ended = run();
    await expect.poll(() => events).toContain("up progress api: not healthy yet");
    guest.show(container("api", healthy));
    expect((await ended).services).toEqual(["api"]);
    expect(guest.commands.filter((one) => one.startsWith("compose"))).toEqual([]);
  });

  it("waits for an event, and looks again at each", async () => {
    const { run, guest, events } = setUp({ containers: [container("api", starting)] });
    const ended = run();
    await expect.poll(() => events).toContain("up progress api: not healthy yet");
    guest.show(container("api", healthy));
    expect((await ended).services).toEqual(["api"]);
  });

  it("fails with the log of the container that exits, and keeps all logs", async () => {
    const { run, kept } = setUp({
      containers: [container("redis", healthy), container("api", { Status: "exited", ExitCode: 3 })],
      answer: (argv) => (argv.at(-1) === "id-api" ? { stdout: "no module named flask\n" } : undefined),
    });
    const error = await failure(run);
    expect(error.code).toBe("guest_failed");
    expect(error.reason).toBe("the service api exited with code 3");
    expect(error.log).toBe("no module named flask");
    expect(error.hint).toContain("/logs/x");
    expect(kept[0]?.["api.log"]).toContain("flask");
  });

  it("fails with the healthcheck's output when a service does not become healthy in time", async () => {
    const Log = [{ ExitCode: 1, Output: "its heart stopped" }];
    const { run } = setUp({
      containers: [container("api", { Health: { Status: "unhealthy", Log } })],
      timeouts: { upMs: 10_000, healthyMs: 50 },
    });
    const error = await failure(run);
    expect(error.code).toBe("guest_failed");
    expect(error.reason).toContain("api did not become healthy within 0.05 s");
    expect(error.log).toContain("its heart stopped");
  });

  it("fails with docker-compose's words when it fails itself", async () => {
    const { run } = setUp({
      answer: (argv) =>
        argv[0] === "compose" ? { code: 1, stderr: "Unsupported config option: foo\n" } : undefined,
    });
    const error = await failure(run);
    expect(error.reason).toContain("exited with code 1");
    expect(error.log).toContain("Unsupported config option: foo");
  });

  it("fails with the warm-up's output and exit code", async () => {
    const { run } = setUp({
      containers: [container("api", healthy)],
      warmup: [{ kind: "command", argv: ["bake"], service: undefined, times: 1, timeoutMs: 1000 }],
      answer: (argv) => (argv[0] === "bake" ? { code: 9, stderr: "the oven is cold\n" } : undefined),
    });
    const error = await failure(run);
    expect(error.message).toContain('the warm-up "bake" exited with code 9');
    expect(error.log).toContain("the oven is cold");
  });

  it("fails when a container did not survive the warm-up", async () => {
    const { run, guest } = setUp({
      containers: [container("api", healthy)],
      warmup: [{ kind: "command", argv: ["crash"], service: undefined, times: 1, timeoutMs: 1000 }],
      answer: (argv) => {
        if (argv[0] === "crash") guest.show(container("api", { Status: "exited", ExitCode: 139 }));
        return undefined;
      },
    });
    expect((await failure(run)).reason).toBe("the service api exited with code 139");
  });

  it("names memory when the guest's kernel had to kill for it", async () => {
    const { run } = setUp({
      containers: [container("api", { Status: "exited", ExitCode: 137 })],
      console: async () => "[ 9.1] Out of memory: Killed process 77 (python3) total-vm:1kB\n",
    });
    const error = await failure(run);
    expect(error.code).toBe("resource_exhausted");
    expect(error.reason).toContain("too little memory: the kernel killed python3");
  });

  it("names memory when the guest does nothing but wait for it", async () => {
    const { run } = setUp({
      answer: (argv) => {
        if (argv[0] === "compose") return { code: 1, stderr: "timed out\n" };
        const stdout =
          "some avg10=90.00 avg60=88.00 avg300=9 total=1\nfull avg10=70.00 avg60=61.20 avg300=9 total=1\n";
        return argv[1] === "/proc/pressure/memory" ? { stdout } : undefined;
      },
    });
    const error = await failure(run);
    expect(error.code).toBe("resource_exhausted");
    expect(error.reason).toContain("too little memory: it spends 61 % of its time");
  });

  it("names the disk when it is full", async () => {
    const { run } = setUp({
      answer: (argv) =>
        argv[0] === "compose" ? { code: 1, stderr: "write /x: no space left on device\n" } : undefined,
    });
    const error = await failure(run);
    expect(error.code).toBe("resource_exhausted");
    expect(error.reason).toContain("disk is full");
  });

  it("ends at once when it is called off", async () => {
    const abort = new AbortController();
    const { run, events } = setUp({ containers: [container("api", starting)], signal: abort.signal });
    const ended = failure(() =>
      run().catch((error) => Promise.reject(SporeletError.from(error, { operation: "x" }))),
    );
    await expect.poll(() => events).toContain("up progress api: not healthy yet");
    abort.abort();
    expect((await ended).code).toBe("cancelled");
  });
});
