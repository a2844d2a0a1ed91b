import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { startFakeNode } from "./testing/fake-node.ts";
import { runForTest } from "./testing/run.ts";
import { parseTranscript, transcriptOutput } from "./testing/transcript.ts";

const directory = path.join(import.meta.dirname, "transcripts");
const update = process.env.UPDATE_TRANSCRIPTS !== undefined;

describe("the transcripts in src/transcripts", () => {
  for (const file of readdirSync(directory).filter((name) => name.endsWith(".transcript"))) {
    it(`${file} is what sporectl prints`, async () => {
      await using node = await startFakeNode();
      const steps = parseTranscript(readFileSync(path.join(directory, file), "utf8"));
      const known = (text: string) => text.replaceAll(node.home, "HOME").replaceAll(node.guestRoot, "GUEST");
      const written: string[] = [];
      for (const { argv, line, expected, before } of steps) {
        const result = await runForTest(argv, { home: node.home, cwd: import.meta.dirname });
        const printed = transcriptOutput(result).map(known);
        if (!update) expect(printed, line).toEqual(expected);
        written.push(...before, line, ...printed);
      }
      if (update) writeFileSync(path.join(directory, file), `${written.join("\n")}\n`);
    });
  }
});
