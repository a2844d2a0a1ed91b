import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv } from "ajv";
import addFormats from "ajv-formats";
import { imageSchemaDirectory } from "./tools.ts";

/** Schemas of the image specification, by the name of their file. */
export type ImageSchema = "image-manifest-schema.json" | "image-index-schema.json" | "config-schema.json";

/**
 * A validator for what the image specification describes. Returns what is wrong, nothing when all is well.
 */
export function imageValidator(): (schema: ImageSchema, value: unknown) => string[] {
  const ajv = new Ajv({ strict: false, allErrors: true });
  // Under its name in CommonJS too, which is how ajv-formats is published.
  (addFormats as unknown as { default: (ajv: Ajv) => void }).default(ajv);
  for (const file of readdirSync(imageSchemaDirectory).filter((name) => name.endsWith(".json"))) {
    const schema = JSON.parse(readFileSync(join(imageSchemaDirectory, file), "utf8"));
    ajv.addSchema({ ...(withoutIds(schema) as object), $id: `http://image-spec.invalid/${file}` });
  }
  return (name, value) => {
    const validate = ajv.getSchema(`http://image-spec.invalid/${name}`);
    if (validate === undefined) throw new Error(`there is no schema ${name}`);
    validate(value);
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
  };
}

/**
 * The schemas are of draft 4, whose only difference that matters here is `id`: it is `$id` now, and names that the
 * relative `$ref`s do not resolve against. The names of files do.
 */
function withoutIds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIds);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(
    ([name, member]) => name !== "$schema" && !(name === "id" && typeof member === "string"),
  );
  return Object.fromEntries(entries.map(([name, member]) => [name, withoutIds(member)]));
}
