import { expect, it } from "vitest";
import { explainEnd } from "./explain.ts";
import { regionsOf } from "./maps.ts";
import { judge } from "./probe.ts";
import { isTooOld, parseAccelerators, parseVersion } from "./version.ts";

const maps = `55d0c1a00000-55d0c1e00000 r--p 00000000 fe:01 1234                       /usr/bin/qemu-system-x86_64
7f0000000000-7f0010000000 rw-p 00000000 fe:01 777                        /store/snapshots/a b/memory
7f0020000000-7f0030000000 rw-p 10000000 fe:01 777                        /store/snapshots/a b/memory
7f0040000000-7f0040001000 rw-p 00000000 00:00 0
`;
const bytes = 0x20000000;
const regions = [
  { address: 0x7f0000000000, bytes: 0x10000000, offset: 0 },
  { address: 0x7f0020000000, bytes: 0x10000000, offset: 0x10000000 },
];

it("finds the mappings of a file by its path", () => {
  expect(regionsOf(maps, { path: "/store/snapshots/a b/memory", inode: 1, bytes })).toEqual(regions);
});

it("finds the mappings of a file that was renamed by its inode", () => {
  expect(regionsOf(maps, { path: "/elsewhere", inode: 777, bytes })).toEqual(regions);
  expect(regionsOf(maps, { path: "/elsewhere", inode: 778, bytes })).toEqual([]);
});

it("tells what took the place of parts of a mapping", () => {
  // A file of 10 pages: the first, two in the middle, and the last three were taken away.
  const discarded = `7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000003000 rw-p 00001000 fe:01 777                        /memory
7f0000003000-7f0000004000 rw-s 00000000 00:01 99                         /dev/zero (deleted)
7f0000005000-7f0000007000 rw-p 00005000 fe:01 777                        /memory
7f0000007000-7f0000020000 rw-p 00000000 00:00 0                          [anon:discarded]
`;
  const page = 4096;
  const at = (first: number, count: number, replaced?: string) => ({
    ...{ address: 0x7f0000000000 + first * page, bytes: count * page, offset: first * page },
    ...(replaced && { replaced }),
  });
  expect(regionsOf(discarded, { path: "/memory", inode: 777, bytes: 10 * page })).toEqual([
    at(0, 1, "anonymous"),
    at(1, 2),
    at(3, 1, "other"),
    at(4, 1, "nothing"),
    at(5, 2),
    at(7, 3, "anonymous"),
  ]);
});

it("reads QEMU's version with its package", () => {
  const debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c)";
  expect(parseVersion(debian)).toEqual({
    version: "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)",
    numbers: [7, 2, 22],
  });
  expect(parseVersion("QEMU emulator version 10.0.50\n")).toEqual({
    version: "10.0.50",
    numbers: [10, 0, 50],
  });
  expect(parseVersion("busybox")).toBeUndefined();
});

it.each([
  [[6, 2, 0], true],
  [[7, 0], false],
  [[10, 1], false],
])("knows whether version %j is too old: %s", (numbers, tooOld) => {
  expect(isTooOld(numbers)).toBe(tooOld);
});

it("reads the accelerators that were compiled in", () => {
  expect(parseAccelerators("Accelerators supported in QEMU binary:\ntcg\nxen\nkvm\n")).toEqual([
    "tcg",
    "xen",
    "kvm",
  ]);
});

it("counts on software emulation untried, and on KVM only when a guest ran", () => {
  expect(judge({}, ["tcg", "kvm"])).toMatchObject({
    accelerators: ["tcg"],
    problems: [{ finding: /not tried/ }],
  });
  expect(judge({ kvm: "works", tcg: "works" }, ["tcg", "kvm"])).toEqual({
    accelerators: ["kvm", "tcg"],
    problems: [],
  });
  const problem = { finding: "KVM: a stock kernel did not get through boot within 5 s" };
  expect(judge({ kvm: problem }, ["tcg", "kvm"])).toEqual({ accelerators: ["tcg"], problems: [problem] });
  expect(judge({}, ["kvm"]).problems).toContainEqual({ finding: "this QEMU was built without TCG" });
});

it.each([
  ["qemu-system-x86_64: load of migration failed: Input/output error", "corrupt"],
  ["qemu-system-x86_64: Not a migration stream", "corrupt"],
  [
    "qemu-system-x86_64: -netdev user,...: Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'",
    "already_exists",
  ],
  [
    "qemu-system-x86_64: unable to map backing store for guest RAM: Cannot allocate memory",
    "resource_exhausted",
  ],
  ["", "unavailable"],
])("explains the end of a QEMU that wrote %j as %s", (log, code) => {
  expect(explainEnd("prepare a clone", "m1", { code: 1 }, log)).toMatchObject({ code, log, subject: "m1" });
});

it("tells the signal that ended QEMU", () => {
  expect(explainEnd("talk to", "m1", { signal: "SIGSEGV" }, "").message).toBe(
    "cannot talk to m1: QEMU was ended by SIGSEGV",
  );
});
