import { appendFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readLog, tailOfFile } from "./log-files.ts";

describe("a log file", () => {
  it("gives its last lines, whatever their lengths", async () => {
    await using directory = await temporaryDirectory();
    const file = path.join(directory.path, "log");
    const line = fc.oneof(
      fc.string({ unit: fc.constantFrom("a", "é", " ") }),
      fc.constant("x".repeat(70_000)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line),
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        async (lines, tail, closed) => {
          const text = lines.join("\n") + (closed && lines.length > 0 ? "\n" : "");
          await writeFile(file, text);
          // A line feed at the end closes the last line.
          const whole = text.endsWith("\n") ? text.slice(0, -1).split("\n") : text.split("\n");
          const expected = whole.slice(-tail).join("\n") + (text.endsWith("\n") ? "\n" : "");
          // Compared here: a difference of long texts takes a reporter minutes.
          expect((await tailOfFile(file, tail)) === expected).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("is empty when it does not exist", async () => {
    expect(await tailOfFile("/nowhere/log", 3)).toBe("");
  });

  it("is followed until the signal aborts, and then read to its end", async () => {
    await using directory = await temporaryDirectory();
    const file = path.join(directory.path, "log");
    await writeFile(file, "one\n");
    const over = new AbortController();
    let text = "";
    for await (const chunk of readLog(file, { tail: 0, follow: true, signal: over.signal })) {
      text += chunk.toString();
      if (text === "one\n") await appendFile(file, "two\n");
      else if (text === "one\ntwo\n") {
        await appendFile(file, "three\n");
        over.abort();
      }
    }
    expect(text).toBe("one\ntwo\nthree\n");
  });
});
