import { describe, expect, it } from "vitest";
import { exampleConfig } from "../testing/gate-host.ts";
import { type Arrival, unpackedBytes } from "./room.ts";

const digest: `sha256:${string}` = `sha256:${"0".repeat(64)}`;
const record = (usedBytes: number, ownBytes?: number) => ({
  ...{ digest, sizeBytes: 10_000, usedBytes },
  ...(ownBytes !== undefined && { ownBytes }),
});
const step = (file: "memory" | "disk" | "vmstate" | "kernel", sizeBytes: number) => ({
  ...{ file, digest, sizeBytes },
});
const base = {
  config: { ...exampleConfig, files: { memory: record(800), vmstate: record(5), kernel: record(70) } },
};

describe("the room that a snapshot takes", () => {
  const files = { memory: record(1000, 100), vmstate: record(5), kernel: record(70) };
  const arrival = (steps: number[]): Arrival => ({
    ...{ config: { files }, base },
    layers: [...steps.map((sizeBytes) => step("memory", sizeBytes)), step("vmstate", 3)],
  });

  it("is all that its files hold when nothing of it is here", () => {
    expect(unpackedBytes({ ...arrival([400, 50]), base: undefined }, true)).toBe(1075);
  });

  it("is what its last step changed when its parent is here, or by how much it is larger", () => {
    expect(unpackedBytes(arrival([50]), true)).toBe(200 + 5);
    const larger = { memory: record(850, 100), vmstate: record(5) };
    expect(unpackedBytes({ ...arrival([50]), config: { files: larger } }, true)).toBe(100 + 5);
  });

  it("counts the steps between it and an ancestor that is here, and never more than the whole", () => {
    expect(unpackedBytes(arrival([300, 50]), true)).toBe(300 + 100 + 5);
    expect(unpackedBytes(arrival([900, 300, 50]), true)).toBe(1000 + 5);
  });

  it("is nothing for an image that is the same as the base's", () => {
    expect(unpackedBytes(arrival([]), true)).toBe(5);
  });

  it("counts the copies that are made of the base's files where blocks cannot be shared", () => {
    expect(unpackedBytes(arrival([50]), false)).toBe(1000 + 5 + 70);
    const smaller = { memory: record(300, 100), vmstate: record(5) };
    expect(unpackedBytes({ ...arrival([50]), config: { files: smaller } }, false)).toBe(800 + 5);
  });
});
