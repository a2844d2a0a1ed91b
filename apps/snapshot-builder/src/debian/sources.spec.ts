import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fromDeb822, fromList, guestSources } from "./sources.ts";

describe("the guest's package sources", () => {
  it("come from one-line entries for the release alone, with their key", () => {
    const text = `# deb http://no/ bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib # ours
deb http://mirror/debian bookworm-updates main
deb http://mirror/debian trixie main
deb-src http://mirror/debian bookworm main
deb https://elsewhere/apt sdk-bookworm main
`;
    expect(fromList(text)).toEqual([
      "deb [signed-by=/k.gpg] http://mirror/debian bookworm main contrib",
      "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian bookworm-updates main",
    ]);
  });

  it("come from deb822 paragraphs, one line for each pair of URI and suite", () => {
    const text = `Types: deb deb-src
URIs: http://a/debian http://b/debian
Suites: bookworm bookworm-updates sid
Components: main
Signed-By: /k.gpg

Types: deb
Enabled: no
URIs: http://c/debian
Suites: bookworm
Components: main
`;
    expect(fromDeb822(text)).toEqual([
      "deb [signed-by=/k.gpg] http://a/debian bookworm main",
      "deb [signed-by=/k.gpg] http://a/debian bookworm-updates main",
      "deb [signed-by=/k.gpg] http://b/debian bookworm main",
      "deb [signed-by=/k.gpg] http://b/debian bookworm-updates main",
    ]);
  });

  it("are asked for on a host of another release, where a disabled file does not count", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sporelet-apt-"));
    try {
      await mkdir(join(directory, "sources.list.d"));
      await writeFile(join(directory, "sources.list"), "deb http://mirror/debian trixie main\n");
      const entry = "deb http://mirror/debian bookworm main\n";
      await writeFile(join(directory, "sources.list.d/x.list.disabled"), entry);
      await expect(guestSources(directory)).rejects.toMatchObject({
        code: "unsupported",
        hint: expect.stringContaining("Suites: bookworm"),
      });
      await writeFile(join(directory, "sources.list.d/x.list"), entry);
      expect(await guestSources(directory)).toHaveLength(1);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
