import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  collectVariables,
  integer,
  numberBetween,
  parseDomain,
  parseDuration,
  parseEnvFile,
  parsePort,
  parseVariable,
} from "./parse.ts";
import { UsageError } from "./usage.ts";

const port = fc.integer({ min: 1, max: 65_535 });

describe("a port mapping", () => {
  it("is HOST:GUEST for any two ports", () => {
    fc.assert(
      fc.property(port, port, (host, guest) => {
        expect(parsePort(`${host}:${guest}`)).toEqual({ host, guest });
      }),
    );
  });

  it("takes any free host port when only the guest's is given", () => {
    expect(parsePort("80")).toEqual({ host: 0, guest: 80 });
    expect(parsePort("0:80")).toEqual({ host: 0, guest: 80 });
    expect(parsePort(":80")).toEqual({ host: 0, guest: 80 });
    expect(parsePort("80/tcp")).toEqual({ host: 0, guest: 80 });
  });

  it("may begin with a host address", () => {
    expect(parsePort("0.0.0.0:81:80")).toEqual({ host: 81, guest: 80, hostAddress: "0.0.0.0" });
    expect(parsePort("10.0.0.1::80")).toEqual({ host: 0, guest: 80, hostAddress: "10.0.0.1" });
    expect(parsePort("[::1]:81:80")).toEqual({ host: 81, guest: 80, hostAddress: "::1" });
  });

  it.each(["", "web", "80:", "70000:80", "80:0", "80:80:80:80", "80/udp", "-1:80", "1.5:80", "::1:81:80"])(
    "is not %j",
    (text) => {
      expect(() => parsePort(text)).toThrow(UsageError);
    },
  );

  it("is read or refused, whatever is given", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          const { host, guest } = parsePort(text);
          expect(host).toBeGreaterThanOrEqual(0);
          expect(guest).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
        }
      }),
    );
  });
});

describe("a duration", () => {
  it.each([
    ["30s", 30_000],
    ["1m30s", 90_000],
    ["500ms", 500],
    ["2h", 7_200_000],
    ["1.5s", 1500],
    ["10", 10_000],
    ["0", 0],
  ])("%s is %d ms", (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(["", "s", "5 s", "-5s", "5d", "forever", "1s2", "100000h"])("is not %j", (text) => {
    expect(() => parseDuration(text)).toThrow(UsageError);
  });

  it("is its own text in milliseconds", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), (ms) => {
        expect(parseDuration(`${ms}ms`)).toBe(ms);
      }),
    );
  });
});

describe("an environment variable", () => {
  it("keeps everything after the first =", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Z_]+$/), fc.string(), (name, value) => {
        expect(parseVariable(`${name}=${value}`, {})).toEqual([name, value]);
      }),
    );
  });

  it("without a value is the caller's own, and absent where the caller has none", () => {
    expect(parseVariable("A", { A: "mine" })).toEqual(["A", "mine"]);
    expect(parseVariable("A", {})).toBeUndefined();
  });

  it.each(["", "=x", "A B=c"])("is not %j", (text) =>
    expect(() => parseVariable(text, {})).toThrow(UsageError),
  );

  it("given twice has the later value", () => {
    expect(collectVariables(["A=1", "B=2", "A=3"], {})).toEqual({ A: "3", B: "2" });
  });

  it("comes from a file with comments, empty lines and Windows line ends", () => {
    expect(parseEnvFile('# no\r\nA=1\r\n\n  B="kept as it is" \nMINE\n', { MINE: "yes" })).toEqual({
      A: "1",
      B: '"kept as it is" ',
      MINE: "yes",
    });
  });
});

describe("a number", () => {
  it("is whole and within its bounds", () => {
    const parse = integer(1, 10, "a count");
    expect(parse("10")).toBe(10);
    for (const text of ["0", "11", "1.5", "1e1", "", " 1", "x"])
      expect(() => parse(text)).toThrow(UsageError);
  });

  it("may have a fraction where that makes sense", () => {
    const parse = numberBetween(0.01, 4, "a number of CPUs");
    expect([".5", "0.01", "4", "1.25"].map(parse)).toEqual([0.5, 0.01, 4, 1.25]);
    for (const text of ["0", "4.1", "", "1.", "1e0", "-1", "NaN", "0x2"])
      expect(() => parse(text)).toThrow(UsageError);
  });
});

describe("a trust domain", () => {
  it("has a name without spaces", () => {
    expect(parseDomain("team-a.prod_1")).toBe("team-a.prod_1");
    for (const text of ["", "-a", "a b", "a/b", "x".repeat(64)])
      expect(() => parseDomain(text)).toThrow(UsageError);
  });
});
