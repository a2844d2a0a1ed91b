import { spawn } from "node:child_process";
import { join } from "node:path";
import { whyNoDockerRegistry } from "@sporelet/oci/testing";
import { expect, it } from "vitest";
import { traces } from "./support/leftovers.ts";
import { sharedHome, top } from "./support/sporectl.ts";

it("what one node builds another runs, lazily, and goes on where a child stopped", async (ctx) => {
  const reason = whyNoDockerRegistry();
  if (reason !== undefined) ctx.skip(reason);
  const before = await traces(sharedHome);
  const { code, stdout, stderr } = await example("examples/two-nodes/two-nodes.ts");
  expect(code, stderr).toBe(0);
  const figure = (what: string) => new RegExp(`^${what} +(.*)$`, "m").exec(stdout)?.[1] ?? "";
  expect(figure("visits counted by node A's clone, then by node B's")).toMatch(/^\d+, then \d+$/);
  const whole = Number.parseFloat(figure("push of the whole machine"));
  const child = Number.parseFloat(figure("push of the child"));
  expect(child).toBeGreaterThan(0);
  expect(child).toBeLessThan(whole / 20);
  expect(await traces(sharedHome)).toEqual(before);
});

/** Runs an example as a person would. */
function example(path: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn("node", [join(top, path)], {
      env: { ...process.env, SPORELET_HOME: sharedHome, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}
