import { SporeletError } from "@sporelet/errors";
import { describe, expect, it } from "vitest";
import { defaultConfig, parseConfig } from "./config.ts";

function problem(text: string): SporeletError {
  try {
    parseConfig(text, "sporelet.yaml");
  } catch (error) {
    if (error instanceof SporeletError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("sporelet.yaml", () => {
  it("is all defaults when it is empty", () => {
    expect(parseConfig("", "sporelet.yaml")).toEqual(defaultConfig);
    expect(parseConfig("# nothing\n", "sporelet.yaml")).toEqual(defaultConfig);
  });

  it("holds machine, images, warm-ups, hooks, ports and timeouts", () => {
    const config = parseConfig(
      `machine: { cpus: 2, memory: 1.5GiB, disk: 8GiB }
compose: deploy/compose.yaml
images:
  - name: hello-api:1
    packages: [python3-minimal]
    files: [{ source: ./api.py, target: /app/api.py, mode: 0755 }]
    command: [python3, /app/api.py]
    env: { PORT: 8080 }
  - name: other:1
    archive: images/other.tar
  - { name: third:1, layout: images/layout }
  - { name: registry.example/x:1, tls: false }
warmup:
  - command: [sh, -c, "echo hi"]
    service: api
    timeout: 1m30s
  - http: { url: "http://127.0.0.1:8080/", times: 3 }
hooks: { before-freeze: [hooks/a], after-resume: [hooks/b, hooks/c] }
ports: [8080]
timeouts: { up: 5m, healthy: 90s, hook: 500ms }
`,
      "sporelet.yaml",
    );
    expect(config.machine).toEqual({ cpus: 2, memoryBytes: 1.5 * 1024 ** 3, diskBytes: 8 * 1024 ** 3 });
    expect(config.compose).toBe("deploy/compose.yaml");
    expect(config.images.map(({ name, kind }) => [name, kind])).toEqual([
      ["hello-api:1", "packages"],
      ["other:1", "archive"],
      ["third:1", "layout"],
      ["registry.example/x:1", "registry"],
    ]);
    expect(config.images[0]).toMatchObject({
      files: [{ source: "api.py", target: "/app/api.py", mode: 0o755 }],
      env: { PORT: "8080" },
    });
    expect(config.images[3]).toMatchObject({ tls: false });
    expect(config.warmup).toMatchObject([
      { kind: "command", argv: ["sh", "-c", "echo hi"], service: "api", times: 1, timeoutMs: 90_000 },
      { kind: "http", status: 200, times: 3, method: "GET", timeoutMs: 60_000 },
    ]);
    expect(config.hooks).toEqual({ beforeFreeze: ["hooks/a"], afterResume: ["hooks/b", "hooks/c"] });
    expect(config.timeouts).toEqual({ upMs: 300_000, healthyMs: 90_000, hookMs: 500 });
  });

  it("says where an unknown key stands, and which one was meant", () => {
    const error = problem("machine:\n  cpus: 1\n  memroy: 1GiB\n");
    expect(error.code).toBe("invalid_argument");
    expect(error.subject).toBe("sporelet.yaml:3:3");
    expect(error.reason).toContain('"memroy"');
    expect(error.hint).toContain("memory");
    expect(error.log).toBe("3 |   memroy: 1GiB\n      ^");
  });

  it.each([
    ["machine: { memory: 1 gigabyte }", "1:20", "a size"],
    ["machine: { memory: 64MiB }", "1:20", "less than the 256MiB"],
    ["machine: { disk: 64MiB }", "1:18", "less than the 1024MiB"],
    ["machine: { cpus: 0 }", "1:18", "from 1 to 64"],
    ["machine: [1]", "1:10", "a mapping"],
    ["timeouts: { up: 5 }", "1:17", "a duration"],
    ["images: [{ name: a, archive: x, layout: y }]", "1:10", "more than one source"],
    ["images: [{ archive: x }]", "1:10", "needs a name"],
    ["images: [{ name: a }, { name: a }]", "1:23", "twice"],
    ["images: [{ name: a, command: [x] }]", "1:30", "built here"],
    ["images: [{ name: a, packages: [--foo] }]", "1:32", "no name of a Debian package"],
    ["images: [{ name: a, archive: ../x.tar }]", "1:30", "no path inside the project"],
    ["warmup: [{ timeout: 5s }]", "1:10", "either a command or http"],
    ["warmup: [{ http: { url: ftp://x } }]", "1:25", "no http URL"],
    ["ports: [70000]", "1:9", "from 1 to 65535"],
    ["machine: { cpus: 1", "1:19", ""],
  ])("refuses %s and points at it", (text, place, reason) => {
    const error = problem(text);
    expect(error.subject).toBe(`sporelet.yaml:${place}`);
    expect(error.reason).toContain(reason);
  });
});
