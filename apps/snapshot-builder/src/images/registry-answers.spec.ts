import { describe, expect, it } from "vitest";
import { explainAnswer } from "./registry-answers.ts";

/** As skopeo 1.9 writes it. */
const fatal = (message: string) =>
  `time="2026-04-04T04:04:04Z" level=fatal msg="${message.replaceAll('"', '\\"')}"\n`;
const plainHttp = (registry: string, image: string) =>
  `initializing source docker://${registry}/${image}: pinging container registry ${registry}: ` +
  `Get "https://${registry}/v2/": http: server gave HTTP response to HTTPS client`;
const unknown = (registry: string, image: string, tag: string) =>
  `initializing source docker://${registry}/${image}:${tag}: reading manifest ${tag} in ${registry}/${image}: ` +
  "manifest unknown: manifest unknown";
const unreachable = (registry: string, image: string, why: string) =>
  `initializing source docker://${registry}/${image}:latest: pinging container registry ${registry}: ` +
  `Get "https://${registry}/v2/": ${why}`;
const denied = (registry: string, image: string) =>
  `initializing source docker://${image}: reading manifest latest in ${registry}/${image}: ` +
  "errors: denied: requested access to the resource is denied unauthorized: authentication required";

const explain = (message: string) => explainAnswer(fatal(message), "skopeo ended with exit code 1");

describe.each([
  "127.0.0.1:40404",
  "127.0.0.1:404",
  "localhost:404",
  "404.example",
  "[::1]:404",
  "eof.example",
])("what the registry %s answers", (registry) => {
  it.each(["app", "not-found/404", "eof", "x509/lookup", "timeout", "unauthorized/name"])(
    "is known whatever its image is called: %s",
    (image) => {
      expect(explain(plainHttp(registry, image))).toMatchObject({
        code: "unavailable",
        hint: expect.stringContaining("tls: false"),
      });
      for (const tag of ["404", "EOF", "latest"]) {
        expect(explain(unknown(registry, image, tag))).toMatchObject({
          code: "not_found",
          reason: expect.stringContaining("its registry has no such image (initializing source"),
        });
      }
      expect(explain(denied(registry, image))).toMatchObject({ code: "permission_denied" });
      for (const why of [
        `dial tcp ${registry}: connect: connection refused`,
        `dial tcp: lookup ${registry}: no such host`,
        "dial tcp 192.0.2.1:443: i/o timeout",
        "net/http: TLS handshake timeout",
        "net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
        "x509: certificate signed by unknown authority",
        "EOF",
      ]) {
        expect(explain(unreachable(registry, image, why)), why).toMatchObject({
          code: "unavailable",
          hint: expect.stringContaining("check the name and the network"),
        });
      }
      expect(explain(unreachable(registry, image, "teapot"))).toMatchObject({ code: "internal" });
    },
  );
});

describe("an answer of skopeo", () => {
  it("is the last of several", () => {
    const log = fatal("404 Not Found").replace("fatal", "warning") + fatal("connection refused");
    expect(explainAnswer(log, "")).toMatchObject({ code: "unavailable" });
  });

  it("is told as it is when it means nothing known, and so is that there is none", () => {
    const message = 'Error parsing image name "docker://UPPER": invalid reference format';
    expect(explain(message)).toEqual({ code: "internal", reason: message });
    expect(explainAnswer("", "it was killed")).toEqual({ code: "internal", reason: "it was killed" });
  });

  it("is told by its status too", () => {
    expect(explain("reading manifest 1 in a.example/b: StatusCode: 404, <html>")).toMatchObject({
      code: "not_found",
    });
  });
});
