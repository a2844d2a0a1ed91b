import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { describe, expect, it } from "vitest";
import {
  blobOf,
  makeCertificate,
  startDockerRegistry,
  startTestRegistry,
  whyNoCertificate,
  whyNoDockerRegistry,
} from "../testing/index.ts";
import { createRegistryClient } from "./client.ts";
import { endpointOf, follow } from "./endpoint.ts";

const impatient = { attempts: 2, firstDelayMs: 1 };

describe("endpointOf", () => {
  it.each([
    ["registry.example", false, "https://registry.example/v2/"],
    ["registry.example:5000", false, "https://registry.example:5000/v2/"],
    ["10.0.0.1:5000", false, "https://10.0.0.1:5000/v2/"],
    ["localhost:5000", false, "http://localhost:5000/v2/"],
    ["127.0.0.2:5000", false, "http://127.0.0.2:5000/v2/"],
    ["[::1]:5000", false, "http://[::1]:5000/v2/"],
    ["127.0.0.1.example", false, "https://127.0.0.1.example/v2/"],
    ["localhost.example", false, "https://localhost.example/v2/"],
    ["registry.example", true, "http://registry.example/v2/"],
    ["localhost:5000", "never", "https://localhost:5000/v2/"],
    ["docker.io", false, "https://registry-1.docker.io/v2/"],
  ] as const)("is for %s, plain HTTP %j: %s", (registry, plainHttp, url) => {
    expect(endpointOf(registry, plainHttp).href).toBe(url);
  });
});

describe("follow", () => {
  const context = { operation: "push the blob", subject: "hello" };
  const to = (location: string, base: string) => follow(location, new URL(base), false, context).href;

  it("keeps to HTTPS where a registry behind a proxy thinks that it speaks plain HTTP", () => {
    expect(to("http://r.example/v2/x?_state=a%3D%3D", "https://r.example/v2/y")).toBe(
      "https://r.example/v2/x?_state=a%3D%3D",
    );
  });

  it("does not leave HTTPS for another host", () => {
    expect(() => to("http://s.example/x", "https://r.example/y")).toThrow(
      "from HTTPS to plain HTTP at s.example",
    );
  });

  it("takes relative Locations with queries as they are", () => {
    expect(to("/v2/x/uploads/1?_state=a%2Fb&c=d", "https://r.example/v2/y?z=1")).toBe(
      "https://r.example/v2/x/uploads/1?_state=a%2Fb&c=d",
    );
    expect(to("?_state=2", "https://r.example/v2/y?_state=1")).toBe("https://r.example/v2/y?_state=2");
  });
});

describe.skipIf(whyNoCertificate() !== undefined)(
  `HTTPS (${whyNoCertificate() ?? "with a certificate of our own"})`,
  () => {
    it("works with an authority that a file names", async () => {
      using tls = makeCertificate();
      await using registry = await startTestRegistry({ tls });
      const blob = registry.put("hello", Buffer.from("hello"));
      await using client = createRegistryClient({ caFile: tls.certFile, plainHttp: "never" });
      expect(blobOf(await client.repository(registry.address, "hello").readBlob(blob))).toEqual(blob);
    });

    it("works with docker-registry", async (ctx) => {
      const reason = whyNoDockerRegistry();
      if (reason !== undefined) return ctx.skip(reason);
      using tls = makeCertificate();
      await using registry = await startDockerRegistry({ tls });
      await using client = createRegistryClient({ caFile: tls.certFile, plainHttp: "never" });
      await client.check(registry.address);
    });

    it("is refused with an explanation when nobody vouches for the certificate", async () => {
      using tls = makeCertificate();
      await using registry = await startTestRegistry({ tls });
      await using client = createRegistryClient({ plainHttp: "never", retries: impatient });
      await expect(client.check(registry.address)).rejects.toMatchObject({
        code: "unavailable",
        reason: expect.stringContaining(`the certificate of ${registry.address} is not trusted`),
        hint: expect.stringContaining("--ca-file"),
      });
    });

    it("is explained when the registry speaks HTTPS and was to be asked by plain HTTP", async (ctx) => {
      const reason = whyNoDockerRegistry();
      if (reason !== undefined) return ctx.skip(reason);
      using tls = makeCertificate();
      await using registry = await startDockerRegistry({ tls });
      await using client = createRegistryClient({ retries: impatient });
      await expect(client.check(registry.address)).rejects.toMatchObject({
        hint: expect.stringContaining("HTTPS"),
      });
    });
  },
);

describe("a certificate file", () => {
  it("has to be there, and to hold a certificate", async () => {
    await using directory = await temporaryDirectory();
    const caFile = join(directory.path, "ca.pem");
    expect(() => createRegistryClient({ caFile })).toThrow(expect.objectContaining({ code: "not_found" }));
    await writeFile(caFile, "nothing");
    expect(() => createRegistryClient({ caFile })).toThrow(
      expect.objectContaining({ code: "invalid_argument" }),
    );
  });
});

describe("a registry that cannot be reached", () => {
  it("is explained when it speaks plain HTTP and was to be asked by HTTPS", async () => {
    await using registry = await startTestRegistry();
    await using client = createRegistryClient({ plainHttp: "never", retries: impatient });
    await expect(client.check(registry.address)).rejects.toMatchObject({
      code: "unavailable",
      reason: `${registry.address} does not speak HTTPS`,
      hint: expect.stringContaining("--plain-http"),
    });
  });

  it("is told from one that is slow to start", async () => {
    const registry = await startTestRegistry();
    await registry.stop();
    await using client = createRegistryClient({ retries: impatient });
    await expect(client.check(registry.address)).rejects.toMatchObject({
      code: "unavailable",
      reason: "nothing listens there",
    });
  });
});
