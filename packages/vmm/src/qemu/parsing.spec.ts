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
const regions = [
  { address: 0x7f0000000000, bytes: 0x10000000, offset: 0 },
  { address: 0x7f0020000000, bytes: 0x10000000, offset: 0x10000000 },
];

it("finds the mappings of a file by its path", () => {
  expect(regionsOf(maps, { path: "/store/snapshots/a b/memory", inode: 1 })).toEqual(regions);
});

it("finds the mappings of a file that was renamed by its inode", () => {
  expect(regionsOf(maps, { path: "/elsewhere", inode: 777 })).toEqual(regions);
  expect(regionsOf(maps, { path: "/elsewhere", inode: 778 })).toEqual([]);
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
