import { access, constants } from "node:fs/promises";
import { join } from "node:path";

/** Where Debian keeps programs for root, which a user's PATH does not name. */
const more = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** The path of a program, as running it would find it, or in one of root's directories. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of [...(process.env.PATH ?? "").split(":"), ...more]) {
    if (directory === "") continue;
    const path = join(directory, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}
