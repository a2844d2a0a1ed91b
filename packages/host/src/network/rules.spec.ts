import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { freeLinks, linkCount, linkOf, namespaceName, parseNamespaceName } from "./addresses.ts";
import { parseNameServers } from "./dns.ts";
import { forwardRules, type ListedRule, removeForwardRules } from "./rules.ts";

const indexes = fc.nat(linkCount - 1);
const numberOf = (address: string) =>
  (address.split("/")[0] ?? "").split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);

describe("links", () => {
  it("lie in 10.108.0.0/16, each in a /30 of its own", () => {
    fc.assert(
      fc.property(indexes, indexes, (a, b) => {
        const [one, two] = [linkOf(a), linkOf(b)];
        expect(numberOf(one.hostAddress) & 3).toBe(1);
        expect(numberOf(one.namespaceAddress)).toBe(numberOf(one.hostAddress) + 1);
        expect(one.hostAddress.startsWith("10.108.")).toBe(true);
        expect(one.hostAddress.startsWith(`${one.gateway}/`)).toBe(true);
        expect(one.hostInterface.length).toBeLessThanOrEqual(15); // IFNAMSIZ
        expect(numberOf(one.hostAddress) >> 2 === numberOf(two.hostAddress) >> 2).toBe(a === b);
      }),
    );
  });

  it("that are taken are not given out", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(40)), fc.nat(20), (taken, count) => {
        const free = freeLinks(["lo", "eth0", ...taken.map((index) => linkOf(index).hostInterface)], count);
        expect(free).toHaveLength(count);
        expect(free.some(({ index }) => taken.includes(index))).toBe(false);
      }),
    );
  });

  it("can be told from a namespace's name", () => {
    fc.assert(
      fc.property(indexes, (index) => {
        expect(parseNamespaceName(namespaceName("0123abcd", index))).toEqual({ owner: "0123abcd", index });
      }),
    );
    for (const name of ["spore-0123abcd-16384", "spore-0123abcd-", "spore-xyz-1", "other"]) {
      expect(parseNamespaceName(name)).toBeUndefined();
    }
  });
});

describe("rules in another's forward chain", () => {
  const chain = (policy: string): ListedRule => ({ chain: { name: "FORWARD", policy, hook: "forward" } });
  const ours: ListedRule = { rule: { handle: 7, comment: "sporelet" } };
  const theirs: ListedRule = { rule: { handle: 8 } };

  it("are needed where it drops and they are not there yet", () => {
    expect(forwardRules([chain("drop"), theirs], "filter", "FORWARD")).toContain(
      "ip saddr 10.108.0.0/16 accept",
    );
    expect(forwardRules([chain("drop"), ours], "filter", "FORWARD")).toBe("");
    expect(forwardRules([chain("accept")], "filter", "FORWARD")).toBe("");
    expect(forwardRules([], "filter", "FORWARD")).toBe("");
  });

  it("are removed, and no others", () => {
    expect(removeForwardRules([chain("drop"), ours, theirs], "filter", "FORWARD")).toBe(
      "delete rule ip filter FORWARD handle 7\n",
    );
  });
});

it("name servers on loopback addresses are of no use to a guest", () => {
  const text =
    "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1 \nnameserver fe80::1\n nameserver 192.0.2.2\n";
  expect(parseNameServers(text)).toEqual(["192.0.2.1", "192.0.2.2"]);
});
