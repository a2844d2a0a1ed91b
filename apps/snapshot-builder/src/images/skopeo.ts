/** Images that exist already, fetched and converted by skopeo. */
import { createReadStream } from "node:fs";
import { SporeletError } from "@sporelet/errors";
import { runProcess } from "@sporelet/host";
import { extract } from "tar-stream";
import { explainAnswer } from "./registry-answers.ts";

export interface SourceReference {
  /** skopeo's: `docker://…`, `oci:…`, `docker-archive:…`. */
  reference: string;
  /** False: the registry speaks plain HTTP, or its certificate is not to be checked. Default: true. */
  tls?: boolean;
}

const inspectTimeoutMs = 60_000;
const copyTimeoutMs = 1_800_000;
// Signature policy is for those who deploy; without the option skopeo wants /etc/containers/policy.json.
const skopeo = ["skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64"];

/** Copies an image for linux/amd64 into a new docker-archive under `name`. */
export async function copyImage(
  source: SourceReference,
  target: string,
  name: string,
  options: { signal?: AbortSignal | undefined; onLine: (line: string) => void },
): Promise<void> {
  const tls = source.tls === false ? ["--src-tls-verify=false"] : [];
  const destination = `docker-archive:${target}:${withTag(name)}`;
  await explained(name, () =>
    runProcess([...skopeo, "copy", ...tls, source.reference, destination], {
      operation: "fetch the image",
      signal: options.signal,
      timeoutMs: copyTimeoutMs,
      onLine: (_, line) => options.onLine(line),
    }),
  );
}

/** The digest that a registry has for a name now. */
export async function registryDigest(
  name: string,
  tls: boolean,
  signal: AbortSignal | undefined,
): Promise<string> {
  const verify = tls ? [] : ["--tls-verify=false"];
  const { stdout } = await explained(name, () =>
    runProcess(
      [...skopeo, "inspect", "--no-tags", ...verify, "--format", "{{.Digest}}", `docker://${name}`],
      {
        operation: "find the image",
        signal,
        timeoutMs: inspectTimeoutMs,
      },
    ),
  );
  return stdout.trim();
}

/** Finds the image of that name in a `docker save` archive; one that is alone in it needs no name. */
export async function archiveReference(path: string, name: string): Promise<SourceReference> {
  const manifest = await readManifest(path);
  const tags = manifest.flatMap(({ RepoTags }) => RepoTags ?? []);
  const found = tags.find((tag) => familiar(tag) === familiar(name));
  if (found !== undefined) return { reference: `docker-archive:${path}:${found}` };
  if (manifest.length === 1) return { reference: `docker-archive:${path}` };
  throw new SporeletError({
    code: "invalid_argument",
    operation: `find the image ${name} in`,
    subject: path,
    reason: `it holds ${tags.join(", ") || "images without names"}`,
  });
}

async function readManifest(path: string): Promise<{ RepoTags?: string[] | null }[]> {
  const fail = (reason: string, cause?: unknown) =>
    new SporeletError({
      code: "invalid_argument",
      operation: "read the image archive",
      subject: path,
      reason,
      hint: "make it with: docker save -o FILE IMAGE",
      cause,
    });
  const entries = extract();
  const file = createReadStream(path);
  file.on("error", (error) => entries.destroy(error));
  file.pipe(entries);
  try {
    for await (const entry of entries) {
      if (entry.header.name !== "manifest.json") {
        entry.resume();
        continue;
      }
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      return JSON.parse(Buffer.concat(chunks).toString("utf8"));
    }
  } catch (error) {
    throw fail("it is no tar file of images", error);
  } finally {
    file.destroy();
  }
  throw fail("it holds no manifest.json");
}

/** Docker's short form: no default registry, always a tag. */
function familiar(name: string): string {
  return withTag(name.replace(/^(docker\.io|index\.docker\.io)\//, "").replace(/^library\//, ""));
}

function withTag(name: string): string {
  return /:[^/]*$/.test(name) ? name : `${name}:latest`;
}

/** Turns what a registry answers into an error that says it plainly. */
async function explained<T>(name: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof SporeletError) || error.code !== "internal") throw error;
    const answer = explainAnswer(error.log ?? "", error.reason);
    throw new SporeletError({ ...answer, operation: "fetch the image", subject: name, cause: error });
  }
}
