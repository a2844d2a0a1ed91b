import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { checkPorts, portsOfClone } from "./ports.ts";

const request = fc.record({
  host: fc.integer({ min: 0, max: 70_000 }),
  guest: fc.integer({ min: 0, max: 70_000 }),
  hostAddress: fc.constantFrom("", "127.0.0.1", "0.0.0.0"),
});

describe("ports of several clones", () => {
  it("never meet, and are all ports that exist; or the request is refused", () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 6 }), fc.integer({ min: 1, max: 50 }), (requests, count) => {
        let ports: ReturnType<typeof checkPorts>;
        try {
          ports = checkPorts(requests, count);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_argument" });
          return;
        }
        const used = Array.from({ length: count }, (_, index) => portsOfClone(ports, index)).flat();
        for (const { host, guest } of used) {
          expect(host).toBeLessThanOrEqual(65_535);
          expect(guest).toBeGreaterThan(0);
        }
        const chosen = used
          .filter(({ host }) => host !== 0)
          .map(({ hostAddress, host }) => `${hostAddress}:${host}`);
        expect(new Set(chosen).size).toBe(chosen.length);
      }),
    );
  });

  it("are published on the loopback address unless another is given", () => {
    expect(checkPorts([{ host: 80, guest: 80, hostAddress: "" }], 1)).toEqual([
      { host: 80, guest: 80, hostAddress: "127.0.0.1" },
    ]);
  });
});
