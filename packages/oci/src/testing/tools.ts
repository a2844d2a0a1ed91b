import { existsSync } from "node:fs";
import { join } from "node:path";

const tools = join(import.meta.dirname, "../../../../.tools");

/** The real `oras` program. */
export const orasProgram = join(tools, "bin/oras");
/** The JSON schemas of the image specification. */
export const imageSchemaDirectory = join(tools, "image-spec");

/** Why tests cannot use oras here; undefined when they can. */
export function whyNoOras(): string | undefined {
  return existsSync(orasProgram) ? undefined : "oras is not here: tools/setup --with-test-tools builds it";
}

/** Why tests cannot validate manifests here; undefined when they can. */
export function whyNoImageSchemas(): string | undefined {
  const there = existsSync(join(imageSchemaDirectory, "stamp"));
  return there
    ? undefined
    : "the schemas of manifests are not here: tools/setup --with-test-tools fetches them";
}
