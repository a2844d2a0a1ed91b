import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { startTestRegistry, type TestRegistry } from "@sporelet/oci/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type CliOptions, runForTest } from "../testing/run.ts";

const me = { username: "me", password: "correct horse" };

let registry: TestRegistry;
let directory: string;
beforeEach(async () => {
  registry = await startTestRegistry({ auth: { kind: "token", ...me } });
  directory = await mkdtemp(join(tmpdir(), "sporelet-test-"));
});
afterEach(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const run = (argv: string[], options: Partial<CliOptions> = {}) =>
  runForTest(argv, {
    home: directory,
    env: { DOCKER_CONFIG: join(directory, "docker") },
    ...options,
  });
const logIn = (password: string, ...more: string[]) =>
  run(["login", registry.address, "-u", "me", "--password-stdin", ...more], { stdin: Buffer.from(password) });
const configFile = () => join(directory, "docker/config.json");

describe("sporectl login", () => {
  it("keeps a password that the registry takes, for its owner alone", async () => {
    const { code, stderr, stdout } = await logIn("correct horse\n");
    expect(stderr).toBe(
      `logged in to ${registry.address} as me; the password is kept in ${configFile()}, not encrypted\n`,
    );
    expect([code, stdout.length]).toEqual([0, 0]);
    const auth = Buffer.from("me:correct horse").toString("base64");
    expect(JSON.parse(await readFile(configFile(), "utf8"))).toEqual({
      auths: { [registry.address]: { auth } },
    });
    expect((await stat(configFile())).mode & 0o077).toBe(0);
  });

  it("keeps nothing that the registry refuses, and shows what it said", async () => {
    const { code, stderr } = await logIn("wrong");
    expect(code).toBe(12);
    expect(stderr).toContain(`error: cannot log in to ${registry.address}`);
    expect(stderr).toContain("incorrect username or password");
    expect(stderr).toContain("hint: check the user name and the password");
    await expect(stat(configFile())).rejects.toThrow("ENOENT");
  });

  it("asks on a terminal, and does not show the password", async () => {
    const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => undefined });
    const answers = new Map([
      ["user name: ", "me\r"],
      ["password: ", "correct horse\r"],
    ]);
    const { code, stderr } = await run(["login", registry.address], {
      stdin,
      onOutput({ stderr }) {
        for (const [question, answer] of answers) {
          if (!stderr.includes(question)) continue;
          answers.delete(question);
          stdin.write(answer);
        }
      },
    });
    expect(code).toBe(0);
    expect(stderr).not.toContain("correct horse");
    expect(stderr).toContain("logged in to");
  });

  it("ends when Ctrl-C is typed at a question", async () => {
    const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => undefined });
    const { code } = await run(["login", registry.address], {
      stdin,
      onOutput: ({ stderr }) => void (stderr.includes("user name: ") && stdin.write("\u0003")),
    });
    expect(code).toBe(130);
  });

  it.each([
    [["login", "registry.example/team"], "did you mean registry.example?"],
    [["login", "https://registry.example"], "did you mean registry.example?"],
    [["login", "registry"], "write HOST or HOST:PORT"],
    [["login", "registry.example"], "give it with --username"],
    [["login", "registry.example", "-u", "me"], "give it with --password-stdin"],
    [["logout", "registry"], "write HOST or HOST:PORT"],
  ])("%j is a wrong call", async (argv, hint) => {
    const { code, stderr } = await run(argv);
    expect(code).toBe(2);
    expect(stderr).toContain(hint);
  });

  it("wants a password that is not empty", async () => {
    expect((await logIn("\n")).code).toBe(2);
  });
});

describe("sporectl logout", () => {
  it("forgets a login, and says so when there was none", async () => {
    await logIn("correct horse");
    const first = await run(["logout", registry.address]);
    expect(first).toMatchObject({ code: 0, stderr: `logged out of ${registry.address}\n` });
    const second = await run(["logout", registry.address]);
    expect(second).toMatchObject({ code: 0, stderr: `there was no login to ${registry.address}\n` });
  });
});
