import fc from "fast-check";
import { expect, it } from "vitest";
import { type CommandLine, commandLine, machineRevision, socketsOf } from "./command-line.ts";

const base: CommandLine = {
  id: "m1",
  shape: {
    cpus: 2,
    memoryBytes: 512 << 20,
    accelerator: "tcg",
    disks: 1,
    network: "tap",
    mac: "52:54:00:6b:00:02",
  },
  directory: "/store/machines/m1",
  runtimeDirectory: "/run/sporelet/12345678",
  disks: [{ path: "/store/machines/m1/disk" }],
  network: { kind: "tap", netns: "/run/netns/x", tap: "tap0" },
  memory: "/store/snapshots/abc/memory",
  start: { kind: "restore" },
};
const boot: CommandLine["start"] = {
  kind: "boot",
  kernel: "/k",
  initramfs: "/i",
  kernelArguments: ["quiet", "panic=-1"],
};

/** The values of an option that may be given several times. */
const valuesOf = (words: string[], option: string) => words.filter((_, i) => words[i - 1] === option);

it("gives a machine that boots and its clones the same devices in the same order", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 }), fc.constantFrom("none", "tap", "user"), (disks, network) => {
      const machine: CommandLine = {
        ...base,
        shape: { ...base.shape, disks, network },
        disks: Array.from({ length: disks }, (_, i) => ({ path: `/d${i}`, readOnly: i > 0 })),
      };
      delete machine.network;
      if (network === "tap") machine.network = { kind: "tap", netns: "/n", tap: "tap0" };
      if (network === "user") machine.network = { kind: "user", forwards: [] };
      const [booted, restored] = [commandLine({ ...machine, start: boot }), commandLine(machine)];
      for (const option of ["-device", "-machine", "-cpu", "-smp", "-m", "-accel"]) {
        expect(valuesOf(restored, option)).toEqual(valuesOf(booted, option));
      }
    }),
  );
});

it("shares the memory file of a machine that boots, and maps that of a clone private", () => {
  const memory = "memory-backend-file,id=m0,size=536870912,mem-path=/store/snapshots/abc/memory,share=";
  expect(valuesOf(commandLine({ ...base, start: boot }), "-object")).toContain(`${memory}on`);
  expect(valuesOf(commandLine(base), "-object")).toContain(`${memory}off`);
});

it("loads no kernel into a clone", () => {
  expect(commandLine(base)).not.toContain("-kernel");
  expect(valuesOf(commandLine(base), "-incoming")).toEqual(["fd:4"]);
});

it("gives each kernel argument once, the driver's own first", () => {
  expect(valuesOf(commandLine({ ...base, start: boot }), "-append")).toEqual([
    "console=ttyS0 reboot=t panic=-1 quiet",
  ]);
});

it("keeps commas in paths", () => {
  const words = commandLine({ ...base, disks: [{ path: "/a,b/disk" }] });
  expect(valuesOf(words, "-blockdev")[0]).toContain("file.filename=/a,,b/disk");
});

it("forwards ports of the user-mode network", () => {
  const forwards = [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80 }];
  const words = commandLine({
    ...base,
    shape: { ...base.shape, network: "user" },
    network: { kind: "user", forwards },
  });
  expect(valuesOf(words, "-netdev")[0]).toContain(",hostfwd=tcp:127.0.0.1:8080-10.107.0.2:80");
});

it.each([
  ["another number of disks", { disks: [] }, /0 disks but a shape with 1/],
  [
    "another network",
    { network: { kind: "user", forwards: [] } as const },
    /network user but a shape with tap/,
  ],
  [
    "memory that is no whole number of MiB",
    { shape: { ...base.shape, memoryBytes: 4096 } },
    /multiple of 1 MiB/,
  ],
  [
    "a socket path that the system cannot take",
    { runtimeDirectory: `/${"x".repeat(100)}` },
    /longer than 107 bytes/,
  ],
])("refuses %s", (_, change, message) => {
  expect(() => commandLine({ ...base, ...change } as CommandLine)).toThrow(message);
});

it("names the sockets after the machine", () => {
  expect(socketsOf(base)).toEqual({
    monitor: "/run/sporelet/12345678/m1.qmp",
    agent: "/run/sporelet/12345678/m1.agent",
  });
});

it("raises the machine's revision when something changes that a state depends on", () => {
  const words = (["tcg", "kvm"] as const).flatMap((accelerator) => {
    const line = commandLine({ ...base, shape: { ...base.shape, accelerator } });
    return ["-machine", "-accel", "-cpu", "-device", "-global"].flatMap((option) => valuesOf(line, option));
  });
  expect({ machineRevision, words }).toMatchInlineSnapshot(`
    {
      "machineRevision": 3,
      "words": [
        "microvm,x-option-roms=off,isa-serial=on,rtc=on,acpi=on,mem-merge=off,memory-backend=m0",
        "tcg,thread=multi,tb-size=64",
        "max,la57=off",
        "isa-serial,chardev=console",
        "virtio-serial-device,max_ports=2",
        "virtserialport,id=agent,chardev=agent,name=agent",
        "virtio-rng-device,rng=rng0",
        "virtio-net-device,netdev=net0,mac=52:54:00:6b:00:02",
        "virtio-blk-device,id=vd0,drive=disk0",
        "virtio-balloon-device,free-page-reporting=on",
        "migration.x-events=on",
        "migration.send-configuration=off",
        "microvm,x-option-roms=off,isa-serial=on,rtc=on,acpi=on,mem-merge=off,memory-backend=m0",
        "kvm",
        "host,-arch-capabilities",
        "isa-serial,chardev=console",
        "virtio-serial-device,max_ports=2",
        "virtserialport,id=agent,chardev=agent,name=agent",
        "virtio-rng-device,rng=rng0",
        "virtio-net-device,netdev=net0,mac=52:54:00:6b:00:02",
        "virtio-blk-device,id=vd0,drive=disk0",
        "virtio-balloon-device,free-page-reporting=on",
        "migration.x-events=on",
        "migration.send-configuration=off",
      ],
    }
  `);
});
