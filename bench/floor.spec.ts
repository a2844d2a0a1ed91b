import { fromBinary } from "@bufbuild/protobuf";
import { agent } from "@sporelet/api";
import { expect, it } from "vitest";
import { resumeFrame } from "./floor.ts";

it("encodes by hand the Hello that the agent reads", () => {
  const frame = resumeFrame("52:54:00:6b:00:02");
  expect(frame.readUInt32BE()).toBe(frame.length - 4);
  const hello = fromBinary(agent.HelloSchema, frame.subarray(4));
  expect(hello).toMatchObject({
    protocol: 1,
    kind: agent.HelloKind.RESUME,
    hostname: "floor",
    machineId: expect.stringMatching(/^[0-9a-f]{32}$/),
    network: { mac: "52:54:00:6b:00:02", address: "10.107.0.2/24", gateway: "10.107.0.1", dns: [] },
    generationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
  });
  expect(hello.entropy).toHaveLength(64);
  expect(Number(hello.wallClockNs / 1_000_000n) / Date.now()).toBeCloseTo(1);
});
