import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { humanAge, humanBytes, humanMs } from "./human.ts";
import { errorLines } from "./report-error.ts";
import {
  noSteps,
  progressBar,
  type Step,
  stepEventLine,
  stepLines,
  withEnd,
  withLogLine,
  withStep,
} from "./steps.ts";
import { createStyle, displayWidth, oneLine, printable, takesColour, truncate } from "./style.ts";
import { pairs, table } from "./table.ts";

const plain = createStyle(false);
const step = (id: string, state: Step["state"], more: Partial<Step> = {}): Step => ({
  ...{ id, title: `Step ${id}`, state, fraction: -1, elapsedMs: 0, detail: "" },
  ...more,
});

describe("figures for people", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1023, "1 KiB"],
    [1536, "1.5 KiB"],
    [1 << 30, "1 GiB"],
    [123 * 2 ** 20, "123 MiB"],
    [2 ** 63, "8192 PiB"],
  ])("%d bytes are %s", (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  it.each([
    [0, "0 ms"],
    [0.25, "250 µs"],
    [84.21, "84.2 ms"],
    [999.9, "1.0 s"],
    [54_321, "54.3 s"],
    [125_000, "2m 05s"],
    [11_520_000, "3h 12m"],
  ])("%d ms are %s", (ms, text) => expect(humanMs(ms)).toBe(text));

  it.each([
    [0, "now"],
    [5000, "5s"],
    [180_000, "3m"],
    [7_200_000, "2h"],
    [800_000_000, "9d"],
    [-5000, "now"],
  ])("an age of %d ms is %s", (ms, text) =>
    expect(humanAge(1_000_000_000_000 - ms, 1_000_000_000_000)).toBe(text),
  );

  it("never need more than eight columns for a size", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 59n }), (bytes) => {
        expect(humanBytes(bytes).length).toBeLessThanOrEqual(8);
      }),
    );
  });
});

describe("a table", () => {
  const word = fc.stringMatching(/^[a-z漢é]{0,9}$/);

  it("has its columns aligned and no trailing spaces, whatever the cells", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(word, word, fc.constant("x"))), (rows) => {
        const lines = table(
          [0, 1, 2].map((i) => ({ title: `T${i}`, cell: (row: string[]) => row[i] ?? "" })),
          rows,
        );
        for (const line of lines) expect(line).toBe(line.trimEnd());
        const ends = lines.map(displayWidth);
        if (rows.length > 0) expect(new Set(ends.slice(1)).size).toBe(1);
      }),
    );
  });

  it("leaves out a column that says nothing, and pairs without a value", () => {
    expect(
      table(
        [
          { title: "A", cell: () => "" },
          { title: "B", cell: () => "b" },
        ],
        [0],
      ),
    ).toEqual(["B", "b"]);
    expect(
      pairs([
        ["name", "x"],
        ["nothing", ""],
        ["id", "y"],
      ]),
    ).toEqual(["name  x", "id    y"]);
  });
});

describe("text from elsewhere", () => {
  it("cannot steer the terminal", () => {
    expect(printable("\u001b[2Jgone\u0007\r\nnext\ttab\u009b31m")).toBe("gone\ufffd\nnext\ttab\ufffd31m");
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(printable(text)).not.toMatch(/(?![\n\t])\p{Cc}/u);
      }),
    );
  });

  it("on one line is what a terminal would show last", () => {
    expect(oneLine("Creating api ... \r\n\r\u001b[2KCreating api ... done\r\n")).toBe(
      "Creating api ... done",
    );
    expect(oneLine(" \n")).toBe("");
  });

  it("is cut to the columns there are", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 30 }), (text, columns) => {
        fc.pre(!/\p{Cc}/u.test(text));
        expect(displayWidth(truncate(text, columns))).toBeLessThanOrEqual(columns);
      }),
    );
  });
});

describe("colour", () => {
  it("needs a terminal, and no NO_COLOR", () => {
    expect(takesColour({ isTTY: true }, {})).toBe(true);
    expect(takesColour({}, {})).toBe(false);
    expect(takesColour({ isTTY: true }, { NO_COLOR: "1" })).toBe(false);
    expect(takesColour({ isTTY: true }, { TERM: "dumb" })).toBe(false);
    expect(createStyle(true).red("x")).not.toBe("x");
    expect(plain.red("x")).toBe("x");
  });
});

describe("an error", () => {
  const options = { code: "guest_failed", operation: "build", subject: "x", reason: "it broke" } as const;

  it("shows the end of a long log under a rule, and the hint last", () => {
    const log = Array.from({ length: 100 }, (_, i) => `line ${i}`).join("\n");
    const lines = errorLines(new SporeletError({ ...options, log, hint: "mend it" }), plain);
    expect(lines[0]).toBe("error: cannot build x: it broke");
    expect(lines[1]).toContain("last 30 of 100 lines");
    expect(lines.at(-3)).toBe("  line 99");
    expect(lines.at(-1)).toBe("hint: mend it");
  });

  it("without a log and a hint is one line", () => {
    expect(errorLines(new SporeletError({ ...options, log: "\n" }), plain)).toHaveLength(1);
  });
});

describe("the steps of a build", () => {
  it("never take more columns than there are", () => {
    const anyStep = fc.record({
      id: fc.constantFrom("a", "b"),
      title: fc.string(),
      state: fc.constantFrom("started" as const, "progress" as const, "cached" as const, "done" as const),
      fraction: fc.double({ min: -1, max: 2, noNaN: true }),
      elapsedMs: fc.integer({ min: 0, max: 10_000_000 }),
      detail: fc.string(),
    });
    fc.assert(
      fc.property(fc.array(anyStep), fc.integer({ min: 10, max: 120 }), (steps, columns) => {
        const safe = steps.map((entry) => ({
          ...entry,
          title: printable(entry.title).replaceAll(/[\n\t]/g, " "),
        }));
        const list = withLogLine(
          safe.reduce((at, entry) => withStep(at, entry, 0), noSteps),
          "apt",
          "a line\twith a tab",
        );
        for (const line of stepLines(list, 5000, columns, plain))
          expect(displayWidth(line)).toBeLessThanOrEqual(columns);
      }),
    );
  });

  it("show a running clock for the one at work, and none for those that are over", () => {
    const list = withStep(
      withStep(noSteps, step("a", "cached"), 0),
      step("b", "started", { elapsedMs: 500 }),
      1000,
    );
    expect(stepLines(list, 3000, 80, plain)).toEqual([
      expect.stringMatching(/^✓ Step a {4}cached$/),
      expect.stringMatching(/^. Step b {5}2\.5 s$/),
    ]);
  });

  it("are marked as failed when the build ends before them", () => {
    const list = withEnd(
      withStep(withStep(noSteps, step("a", "done"), 0), step("b", "progress", { elapsedMs: 500 }), 1000),
      3000,
    );
    expect(stepLines(list, 9000, 80, plain)).toEqual([
      expect.stringMatching(/^✓ Step a/),
      expect.stringMatching(/^✗ Step b {5}2\.5 s$/),
    ]);
  });

  it("say each thing once where nothing can be redrawn", () => {
    const events = [
      step("a", "started"),
      step("a", "progress", { detail: "x" }),
      step("a", "progress", { detail: "x" }),
      step("a", "progress", { fraction: 0.3 }),
      step("a", "progress", { fraction: 0.4 }),
      step("a", "done", { elapsedMs: 1500 }),
    ];
    let list = noSteps;
    const lines = events.map((event) => {
      const line = stepEventLine(list, event);
      list = withStep(list, event, 0);
      return line;
    });
    expect(lines).toEqual(["a: Step a", "a: x", undefined, "a: 30 %", undefined, "a: done in 1.5 s"]);
  });

  it("have a bar that is full at 100 %", () => {
    expect(progressBar(0)).toBe(`${"░".repeat(20)}   0 %`);
    expect(progressBar(1)).toBe(`${"█".repeat(20)} 100 %`);
    expect(progressBar(0.999)).toContain(" 99 %");
  });
});
