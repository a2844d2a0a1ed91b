import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { canonicalJson } from "../json.ts";
import { examplePublication } from "../testing/example.ts";
import { parseArtifactIndex, parseSnapshotManifest } from "./parse.ts";

const page = join(import.meta.dirname, "../../../../docs/formats/artifact.md");

/** A JSON example of the page, by the name behind ```json. */
async function example(name: string): Promise<Buffer> {
  const text = await readFile(page, "utf8");
  const [, json] = new RegExp(`\`\`\`json ${name}\n(.*?)\`\`\``, "s").exec(text) ?? [];
  return canonicalJson(JSON.parse(json ?? "null"));
}

describe("docs/formats/artifact.md", () => {
  const { index, manifest } = examplePublication();

  it("shows an index as it is made", async () => {
    expect((await example("index")).toString()).toBe(index.bytes.toString());
    expect(parseArtifactIndex(await example("index")).variants).toHaveLength(1);
  });

  it("shows an artifact with some of the layers that are made", async () => {
    const shown = parseSnapshotManifest(await example("artifact"));
    const made = parseSnapshotManifest(manifest.bytes);
    expect(shown.config).toEqual(made.config);
    for (const layer of shown.layers) expect(made.layers).toContainEqual(layer);
  });
});
