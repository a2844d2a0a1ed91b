import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildHello, clones, sha256 } from "./support/hello.ts";
import { ok, sharedHome, sporectl, sporectlBytes, top } from "./support/sporectl.ts";

describe("sporectl exec", () => {
  let machine: Awaited<ReturnType<typeof clones>>;
  let name: string;

  beforeAll(async () => {
    await buildHello();
    machine = await clones();
    name = machine.first.name;
  });

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  it("keeps stdout and stderr apart and passes the exit code", async () => {
    expect(await sporectl(["exec", name, "sh", "-c", "echo out; echo err >&2; exit 7"])).toEqual({
      code: 7,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  it("ends like the program that a signal ended", async () => {
    expect((await sporectl(["exec", name, "sh", "-c", "kill -TERM $$"])).code).toBe(143);
  });

  it("hands a signal on to the program", async () => {
    const result = await sporectl(
      [
        "exec",
        name,
        "sh",
        "-c",
        'trap "echo caught; exit 3" TERM; echo up >&2; while :; do sleep 1 & wait $!; done',
      ],
      {
        onStart: (child) => child.stderr?.once("data", () => child.kill("SIGTERM")),
      },
    );
    expect(result).toMatchObject({ code: 3, stdout: "caught\n" });
  });

  it("says with 127 and a reason that a program does not exist", async () => {
    const result = await sporectl(["exec", name, "no-such-program"]);
    expect(result.code).toBe(127);
    expect(result.stderr).toContain("no-such-program");
  });

  it("passes 100 MB through stdout unharmed", async () => {
    // An incompressible stream that both sides can make: AES in counter mode from one key is not in busybox,
    // so the guest makes the bytes, sums them, and sends them.
    const script =
      "head -c 100000000 /dev/urandom >/var/tmp/big && sha256sum </var/tmp/big >&2 && cat /var/tmp/big && rm /var/tmp/big";
    const { code, stdout, stderr } = await sporectlBytes(["exec", name, "sh", "-c", script]);
    expect(code).toBe(0);
    expect(stdout.length).toBe(100_000_000);
    expect(sha256(stdout)).toBe(stderr.trim().split(" ")[0]);
  });

  it("passes binary stdin to the program and closes it", async () => {
    const data = randomBytes(5_000_000);
    const { code, stdout } = await sporectlBytes(["exec", "-i", name, "cat"], { stdin: data });
    expect(code).toBe(0);
    expect(sha256(stdout)).toBe(sha256(data));
  });

  it("gives a program without -i an empty stdin", async () => {
    expect(await ok(["exec", name, "cat"], { stdin: "not for it" })).toBe("");
  });

  it("runs in the directory, as the user and with the environment that it is told", async () => {
    const script = 'pwd; id -un; echo "$COLOUR"';
    expect(
      await ok(["exec", "-w", "/tmp", "-u", "nobody", "-e", "COLOUR=dark red", name, "sh", "-c", script]),
    ).toBe("/tmp\nnobody\ndark red\n");
  });

  it("serves 50 at once, each with its own output", async () => {
    const outputs = await Promise.all(
      Array.from({ length: 50 }, (_, i) => ok(["exec", name, "sh", "-c", `echo ${i}; exit 0`])),
    );
    expect(outputs).toEqual(Array.from({ length: 50 }, (_, i) => `${i}\n`));
  });

  it("gives a shell on a terminal with the terminal's size", () => {
    // Python's pty module is the terminal; the shell inside the guest sees one of its own.
    const terminal = `
import pty, os, sys, fcntl, termios, struct
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
os.write(fd, b"test -t 0 && test -t 1 && echo on-a-$((1+1))-tty; sleep 1; stty size; exit 5\\n")
out = b""
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    out += data
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
    const result = spawnSync(
      "python3",
      ["-c", terminal, join(top, "dist/sporectl"), "exec", "-it", name, "sh"],
      {
        env: { ...process.env, SPORELET_HOME: sharedHome },
        timeout: 60_000,
      },
    );
    expect(result.stdout.toString()).toContain("on-a-2-tty");
    expect(result.stdout.toString()).toContain("33 101");
    expect(result.status).toBe(5);
  });
});

describe("sporectl cp", () => {
  it("copies files and trees both ways with their modes", async () => {
    await using machine = await clones();
    const { name } = machine.first;
    const directory = await mkdtemp(join(tmpdir(), "spore-cp-"));
    try {
      const data = randomBytes(1_000_003);
      await writeFile(join(directory, "data"), data, { mode: 0o640 });
      await ok(["cp", join(directory, "data"), `${name}:/root/copied`]);
      expect(await ok(["exec", name, "stat", "-c", "%a %s", "/root/copied"])).toBe("640 1000003\n");
      await ok([
        "exec",
        name,
        "sh",
        "-c",
        "mkdir -p /root/tree/sub && mv /root/copied /root/tree/sub/ && ln -s sub/copied /root/tree/link",
      ]);
      await ok(["cp", `${name}:/root/tree`, directory]);
      expect(sha256(await readFile(join(directory, "tree/link")))).toBe(sha256(data));
      expect((await stat(join(directory, "tree/sub/copied"))).mode & 0o777).toBe(0o640);
      const missing = await sporectl(["cp", `${name}:/no/such`, directory]);
      expect(missing.code).toBe(3);
      expect(missing.stderr).toContain("/no/such");
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
