import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseChallenges } from "./challenge.ts";
import { mergeScopes } from "./scopes.ts";

describe("parseChallenges", () => {
  it.each([
    [
      'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
      [
        {
          scheme: "bearer",
          parameters: {
            realm: "https://auth.example/token",
            service: "registry.example",
            scope: "repository:a/b:pull,push",
          },
        },
      ],
    ],
    ["Basic", [{ scheme: "basic", parameters: {} }]],
    [
      'Basic realm="a \\"b\\", c", BEARER Realm=https://x/y , error="invalid_token"',
      [
        { scheme: "basic", parameters: { realm: 'a "b", c' } },
        { scheme: "bearer", parameters: { realm: "https://x/y", error: "invalid_token" } },
      ],
    ],
    ["", []],
    ['realm="nobody"', []],
  ])("reads %s", (header, challenges) => {
    expect(parseChallenges(header)).toEqual(challenges);
  });

  it("takes whatever comes", () => {
    fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseChallenges(text))));
  });
});

describe("mergeScopes", () => {
  it.each([
    [["repository:a:pull", "repository:a:push"], ["repository:a:pull,push"]],
    [
      ["repository:b:pull", "repository:a:push,pull"],
      ["repository:a:pull,push", "repository:b:pull"],
    ],
    [["repository:a:pull repository:host:5000/b:pull"], ["repository:a:pull", "repository:host:5000/b:pull"]],
    [["registry:catalog:*", ""], ["registry:catalog:*"]],
  ])("makes of %j %j", (scopes, merged) => {
    expect(mergeScopes(scopes)).toEqual(merged);
  });
});
