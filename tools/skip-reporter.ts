import { writeFile } from "node:fs/promises";
import type { Reporter, TestModule } from "vitest/node";

/** A test that did not run. */
export interface SkippedTest {
  /** Path of its file. */
  file: string;
  name: string;
  /** What it gave as the reason. */
  note?: string | undefined;
}

/** Where the list is written: vitest has no options for reporters that it is told of on its command line. */
export const skippedFileVariable = "SPORELET_TEST_SKIPPED_FILE";

/** Writes down which tests were skipped, and why: vitest's JSON report leaves the reasons out. */
export default class SkipReporter implements Reporter {
  async onTestRunEnd(modules: readonly TestModule[]): Promise<void> {
    const file = process.env[skippedFileVariable];
    if (file === undefined) throw new Error(`${skippedFileVariable} does not say where to write`);
    await writeFile(file, JSON.stringify(modules.flatMap(skippedIn)));
  }
}

function skippedIn(module: TestModule): SkippedTest[] {
  return [...module.children.allTests()].flatMap((test) => {
    const result = test.result();
    if (result.state !== "skipped") return [];
    return [{ file: module.moduleId, name: test.fullName, note: result.note }];
  });
}
