import { ok, sharedHome } from "./sporectl.ts";

/** After the last test: no spored of the tests' goes on, and its volume is unmounted. What was built stays. */
export async function teardown(): Promise<void> {
  process.stderr.write(`the shared home of the tests is ${sharedHome}\n`);
  await ok(["node", "stop", "--machines"]);
}
