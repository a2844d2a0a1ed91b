import { SporeletError } from "@sporelet/errors";
import { type Descriptor, parseAnnotations } from "../descriptor.ts";
import { corrupt, type JsonObject, type ReadContext } from "../json.ts";
import { annotationNames, artifactTypes, mediaTypes } from "../media-types.ts";
import { artifactTypeOf, parseLayers, requireMediaType, requireVersion } from "./snapshot.ts";

/** Files as `oras push --artifact-type application/vnd.firecracker.layer.v1 FILE…` sends them, as they are. */
export interface PlainArtifact {
  kind: "plain";
  /** By title, which is a plain file name. */
  files: ReadonlyMap<string, Descriptor>;
  annotations: Readonly<Record<string, string>>;
}

const longestTitleBytes = 255;

/** @throws SporeletError `corrupt`, `incompatible` */
export function readPlainArtifact(manifest: JsonObject, context: ReadContext): PlainArtifact {
  requireMediaType(manifest, mediaTypes.manifest, context);
  requireVersion(artifactTypeOf(manifest), artifactTypes.firecracker, "the artifact's type", context);
  const files = new Map<string, Descriptor>();
  for (const [i, layer] of parseLayers(manifest, context).entries()) {
    // An artifact without files has the empty blob as its only layer.
    if (layer.mediaType === mediaTypes.empty) continue;
    const title = layer.annotations?.[annotationNames.title];
    if (title === undefined) throw corrupt(context, `layers[${i}] has no title`);
    if (!isFileName(title)) throw unsafe(title, context);
    if (files.has(title)) throw corrupt(context, `it has more than one ${title}`);
    files.set(title, layer);
  }
  return { kind: "plain", files, annotations: parseAnnotations(manifest, "the manifest", context) ?? {} };
}

/** Whether a text can be used as the name of a file in a directory and can never lead out of it. */
function isFileName(text: string): boolean {
  if (text === "" || text === "." || text === ".." || Buffer.byteLength(text) > longestTitleBytes)
    return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  return !/[/\\\x00-\x1f\x7f]/.test(text) && text.isWellFormed();
}

function unsafe(title: string, context: ReadContext): SporeletError {
  return new SporeletError({
    ...context,
    code: "corrupt",
    reason: `the title ${JSON.stringify(title)} is not a plain file name`,
    hint: "push the files from their own directory: oras keeps paths as titles",
  });
}
