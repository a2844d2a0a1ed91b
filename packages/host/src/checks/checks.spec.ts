import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../testing/index.ts";
import { hostChecks } from "./checks.ts";
import { findingOfScheduler } from "./kernel.ts";
import { nodeCheck, programChecks } from "./programs.ts";

it("every finding that is not in order comes with a remedy, and no other does", async () => {
  await using home = await temporaryDirectory();
  const checks = await hostChecks({ home: home.path });
  expect(new Set(checks.map(({ id }) => id)).size).toBe(checks.length);
  expect(checks.map(({ id }) => id)).toEqual(
    expect.arrayContaining([
      "reflink",
      "space",
      "memory",
      "network",
      "ksm",
      "hugepages",
      "cgroup",
      "scheduler",
      "fuse",
      "loop",
      "nft",
      "node",
    ]),
  );
  for (const check of checks) {
    expect(check.finding).not.toBe("");
    expect(check.remedy === "").toBe(check.status === "ok");
  }
});

it("looking leaves nothing behind, whether the home exists or not", async () => {
  await using home = await temporaryDirectory();
  await mkdir(join(home.path, "there", "store"), { recursive: true });
  await hostChecks({ home: join(home.path, "there") });
  await hostChecks({ home: join(home.path, "not", "there") });
  expect(await readdir(home.path, { recursive: true })).toEqual(["there", join("there", "store")]);
});

it("programs that are not installed are named with their Debian package", async () => {
  const path = process.env.PATH;
  process.env.PATH = "/nowhere";
  try {
    const skopeo = (await programChecks()).find(({ id }) => id === "skopeo");
    expect(skopeo).toMatchObject({ status: "degraded", remedy: "apt-get install -y skopeo" });
  } finally {
    process.env.PATH = path;
  }
});

it("an old Node is found out", () => {
  expect(nodeCheck("20.19.0").status).toBe("missing");
  expect(nodeCheck("22.14.9").status).toBe("missing");
  expect(nodeCheck("22.15.0").status).toBe("ok");
  expect(nodeCheck("24.0.0").status).toBe("ok");
});

it("a scheduler that starves groups is found out where sessions are groups", () => {
  const statusOf = (kernel: string, sessions = true) => findingOfScheduler(kernel, sessions).status;
  expect(["6.1.0-49-amd64", "6.12.90", "6.18.45", "7.2.0"].map((each) => statusOf(each))).toEqual(
    Array(4).fill("ok"),
  );
  expect(["6.13.0", "6.17.9-generic", "6.18.44-custom", "6.19.1"].map((each) => statusOf(each))).toEqual(
    Array(4).fill("degraded"),
  );
  expect(statusOf("6.18.44", false)).toBe("ok");
});
