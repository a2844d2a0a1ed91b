import { expect, it } from "vitest";
import { hostCpu, parseCpuinfo } from "./cpu.ts";

const core = (flags: string) =>
  `processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Some CPU @ 2.60GHz\nflags\t\t: ${flags}\nvmx flags\t: vnmi ept\nbugs\t\t: swapgs\n\n`;

it("tells the features that a guest may use, and not what Linux notes about the host", () => {
  expect(parseCpuinfo(core("fpu sse2 constant_tsc avx2 pti ept hypervisor hwp"))).toEqual({
    vendor: "GenuineIntel",
    model: "Some CPU @ 2.60GHz",
    features: ["avx2", "fpu", "sse2"],
  });
});

it("names only what each core has", () => {
  expect(parseCpuinfo(core("sse2 avx512f avx2") + core("sse2 avx2")).features).toEqual(["avx2", "sse2"]);
});

it("knows no features on another architecture", () => {
  expect(parseCpuinfo("processor : 0\nFeatures : fp asimd\n")).toEqual({
    vendor: "",
    model: "",
    features: [],
  });
});

it.runIf(process.arch === "x64")("finds what every x86-64 CPU has on this host", async () => {
  expect((await hostCpu()).features).toEqual(expect.arrayContaining(["fpu", "sse2", "syscall"]));
});
