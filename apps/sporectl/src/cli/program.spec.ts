import { Option } from "commander";
import { describe, expect, it } from "vitest";
import { families, groups } from "../commands/index.ts";
import { referencePages } from "../docs/reference.ts";
import { parseCommandLine } from "./program.ts";

const programme = { groups, families, version: "1.2.3", columns: 80 };
const definitions = groups.flatMap(({ commands }) => commands);

async function parsed(line: string) {
  const result = await parseCommandLine(
    line.split(" ").filter((word) => word !== ""),
    programme,
  );
  if (result.kind === "text") throw new Error(`printed: ${result.text}`);
  return { name: result.definition.name, args: result.args, options: result.options };
}

describe("the table of commands", () => {
  it.each(definitions.map((definition) => [definition.name, definition] as const))(
    "%s is sound",
    async (name, definition) => {
      for (const [key, { flags }] of Object.entries(definition.signature.options)) {
        expect(new Option(flags).attributeName(), flags).toBe(key);
      }
      expect(definition.summary).not.toMatch(/\.$/);
      expect(await definition.load()).toHaveProperty("action");
      if (definition.hidden) return;
      expect(definition.examples.length).toBeGreaterThan(0);
      const help = await parseCommandLine([...name.split(" "), "--help"], programme);
      const text = help.kind === "text" ? help.text : "";
      expect(text).toContain(definition.summary);
      for (const [line] of definition.examples) expect(text).toContain(line);
      for (const line of text.split("\n").filter((entry) => !entry.includes("sporectl")))
        expect(line.length).toBeLessThanOrEqual(80);
    },
  );

  it("has examples that are right calls", async () => {
    for (const { examples } of definitions) {
      for (const [line] of examples) {
        const simple = line.replaceAll(/'[^']*'|\$\([^)]*\)/g, "x");
        for (const [, words = ""] of simple.matchAll(/sporectl ([^|<>()]*)/g)) await parsed(words);
      }
    }
  });

  it("has a page of the reference for each command that is shown", () => {
    expect(referencePages(groups).size).toBe(definitions.filter(({ hidden }) => !hidden).length + 1);
  });
});

describe("a command line", () => {
  it("takes global options before and after the command", async () => {
    for (const line of [
      "--home /x -q rm m",
      "rm --home /x -q m",
      "rm m --home /x -q",
      "--home /y rm m --home /x -q",
    ]) {
      expect((await parsed(line)).options, line).toMatchObject({ home: "/x", quiet: true });
    }
    expect((await parsed("--home /x snapshot ls")).options).toMatchObject({
      home: "/x",
      quiet: false,
      json: false,
    });
  });

  it("takes options after the name of the snapshot, and leaves those after -- to the command", async () => {
    expect(await parsed("run hello -n 2 -p 80 -- ls -n")).toMatchObject({
      args: { snapshot: "hello", command: ["ls", "-n"] },
      options: { count: 2, publish: [{ host: 0, guest: 80 }] },
    });
  });

  it("leaves everything after the machine of exec to the command", async () => {
    expect(await parsed("exec -i m ls --help --home -q")).toMatchObject({
      args: { machine: "m", command: ["ls", "--help", "--home", "-q"] },
      options: { interactive: true, tty: false, home: undefined, quiet: false },
    });
    expect((await parsed("exec -it m sh")).options).toMatchObject({ interactive: true, tty: true });
  });

  it("gives every option its value when it is not given", async () => {
    expect((await parsed("run hello")).options).toEqual({
      ...{
        name: undefined,
        publish: [],
        publishAll: false,
        env: [],
        envFile: [],
        rm: false,
        count: 1,
        timeout: 0,
        fetch: "",
        plainHttp: false,
        caFile: undefined,
      },
      ...{ wakeOnConnect: false, idleSuspend: 0, cpuLimit: 0, memoryLimit: 0, ioLimit: 0, ksm: "" },
      ...{
        interactive: false,
        tty: false,
        workdir: undefined,
        user: undefined,
        home: undefined,
        quiet: false,
        json: false,
      },
    });
    expect((await parsed("build . --no-cache")).options).toMatchObject({ cache: false, layer: 1 });
    expect((await parsed("build .")).options).toMatchObject({ cache: true });
  });

  it("without a command prints the help", async () => {
    for (const argv of [[], ["--help"], ["help"], ["snapshot"], ["help", "run"], ["node", "--help"]]) {
      expect(await parseCommandLine(argv, programme)).toMatchObject({
        kind: "text",
        text: expect.stringContaining("Usage: sporectl"),
      });
    }
    expect(await parseCommandLine(["-V"], programme)).toEqual({ kind: "text", text: "sporectl 1.2.3\n" });
  });
});
