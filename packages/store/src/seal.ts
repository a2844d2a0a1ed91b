import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { SporeletError } from "@sporelet/errors";
import { writeFileAtomic } from "@sporelet/host";
import type { SnapshotFile } from "./config.ts";

/**
 * What the files looked like when they were put into the store. Nothing writes to them after that, so a
 * file whose size and time of change are these has the content that was hashed then: enough of a check
 * before a resume, which has no time to hash.
 */
type Seal = Partial<Record<SnapshotFile, { sizeBytes: number; mtimeNs: string }>>;

const sealName = "seal.json";

export async function writeSeal(directory: string, files: Iterable<SnapshotFile>): Promise<void> {
  const seal: Seal = {};
  for (const file of files) {
    const { size, mtimeNs } = await stat(join(directory, file), { bigint: true });
    seal[file] = { sizeBytes: Number(size), mtimeNs: String(mtimeNs) };
  }
  await writeFileAtomic(join(directory, sealName), `${JSON.stringify(seal, null, 2)}\n`, 0o400);
}

/** @throws SporeletError `corrupt` that names the first file that is not as it was sealed. */
export async function checkSeal(
  directory: string,
  files: Iterable<SnapshotFile>,
  subject: string,
): Promise<void> {
  const broken = (file: string, reason: string, cause?: unknown) =>
    new SporeletError({
      code: "corrupt",
      operation: "use the snapshot",
      subject,
      reason: `its file ${file} ${reason} (${join(directory, file)})`,
      hint: "remove the snapshot and build it again",
      cause,
    });
  let seal: Seal;
  try {
    seal = JSON.parse(await readFile(join(directory, sealName), "utf8"));
  } catch (error) {
    throw broken(sealName, "cannot be read", error);
  }
  const check = async (file: SnapshotFile) => {
    const sealed = seal[file];
    if (sealed === undefined) throw broken(file, "was never sealed");
    const found = await stat(join(directory, file), { bigint: true }).catch(
      (error: NodeJS.ErrnoException) => {
        throw error.code === "ENOENT" ? broken(file, "is missing", error) : error;
      },
    );
    if (Number(found.size) !== sealed.sizeBytes) {
      throw broken(file, `has ${found.size} bytes instead of ${sealed.sizeBytes}`);
    }
    if (String(found.mtimeNs) !== sealed.mtimeNs) throw broken(file, "was written to after it was stored");
  };
  await Promise.all([...files].map(check));
}
