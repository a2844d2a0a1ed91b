import { expect, it } from "vitest";
import { isWarmup, type Warmup } from "./warmup.ts";

const http: Warmup = {
  kind: "http",
  url: "http://127.0.0.1:8080/",
  status: 200,
  times: 5,
  method: "GET",
  body: "",
  headers: { accept: "*/*" },
  timeoutMs: 60_000,
};
const command: Warmup = { kind: "command", argv: ["true"], service: "api", times: 1, timeoutMs: 1000 };

it.each([http, command])("knows a warm-up that was stored as JSON", (warmup) => {
  expect(isWarmup(JSON.parse(JSON.stringify(warmup)))).toBe(true);
});

it("knows a command without a service, which JSON leaves out", () => {
  expect(isWarmup(JSON.parse(JSON.stringify({ ...command, service: undefined })))).toBe(true);
});

it.each([
  null,
  "GET /",
  {},
  { ...http, kind: "ftp" },
  { ...http, url: 5 },
  { ...http, times: 0 },
  { ...http, headers: { accept: 1 } },
  { ...http, status: "200" },
  { ...command, argv: "true" },
  { ...command, argv: [1] },
  { ...command, timeoutMs: -1 },
  { ...command, service: {} },
])("does not take %j for one", (value) => {
  expect(isWarmup(value)).toBe(false);
});
