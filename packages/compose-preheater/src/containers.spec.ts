import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { healthLog, judge, serviceOf } from "./containers.ts";
import { container } from "./testing/fake-guest.ts";

const any = fc.record({
  status: fc.constantFrom("created", "running", "paused", "restarting", "removing", "exited", "dead"),
  exitCode: fc.constantFrom(0, 1, 137),
  health: fc.constantFrom(undefined, "starting", "healthy", "unhealthy"),
  restarts: fc.nat(7),
  policy: fc.constantFrom("no", "always", "on-failure", "unless-stopped"),
});

describe("a project's containers", () => {
  it("are ready exactly when none is waited for and none failed, and never without any", () => {
    fc.assert(
      fc.property(fc.array(any, { maxLength: 5 }), (states) => {
        const containers = states.map(({ status, exitCode, health, restarts, policy }, i) =>
          container(
            `s${i}`,
            {
              Status: status as "running",
              ExitCode: exitCode,
              ...(health && { Health: { Status: health } }),
            },
            { restarts, policy },
          ),
        );
        const { ready, waiting, failed, fraction } = judge(containers);
        expect(ready).toBe(containers.length > 0 && waiting.length === 0 && failed === undefined);
        expect(fraction).toBeGreaterThanOrEqual(0);
        expect(fraction).toBeLessThanOrEqual(1);
        if (ready) expect(fraction).toBe(1);
        for (const { State } of ready ? containers : []) {
          expect(State.Status === "running" || (State.Status === "exited" && State.ExitCode === 0)).toBe(
            true,
          );
        }
      }),
    );
  });

  it.each([
    ["that runs and has no healthcheck is ready", container("a"), "ready"],
    [
      "whose healthcheck has not passed yet is waited for",
      container("a", { Health: { Status: "starting" } }),
      "waiting",
    ],
    ["that is unhealthy may still recover", container("a", { Health: { Status: "unhealthy" } }), "waiting"],
    ["that is a job and is done is ready", container("a", { Status: "exited" }), "ready"],
    [
      "that failed and is not restarted has failed",
      container("a", { Status: "exited", ExitCode: 3 }),
      "failed",
    ],
    [
      "that is restarted after a failure gets another chance",
      container("a", { Status: "exited", ExitCode: 3 }, { policy: "on-failure" }),
      "waiting",
    ],
    [
      "that fails again and again has failed",
      container("a", { Status: "restarting", ExitCode: 3 }, { policy: "always", restarts: 5 }),
      "failed",
    ],
    [
      "that could not be started has failed",
      container("a", { Status: "created", Error: "no such file" }),
      "failed",
    ],
  ])("one %s", (_, one, verdict) => {
    const { ready, waiting, failed } = judge([one]);
    expect(ready ? "ready" : failed ? "failed" : waiting.length > 0 && "waiting").toBe(verdict);
  });

  it("are called by their Compose service", () => {
    expect(serviceOf(container("redis"))).toBe("redis");
  });

  it("tell what their last healthchecks wrote", () => {
    const Log = [1, 2, 3, 4].map((n) => ({ ExitCode: 1, Output: `try ${n}\n` }));
    const text = healthLog(container("a", { Health: { Status: "unhealthy", Log } }));
    expect(text.split("\n")).toEqual([2, 3, 4].map((n) => `healthcheck exited with code 1: try ${n}`));
  });
});
