import { SporeletError } from "@sporelet/errors";

/**
 * Makes the function that gives each entry of a tar its new name. The first entry is the tree's root: whatever
 * it is called in the tar, it becomes `name`, or nothing where only the contents are wanted.
 * @returns for each name in the tar the new one, relative, without `.` and `..`; undefined for an entry to leave out
 * @throws SporeletError corrupt for a name outside of the tree
 */
export function entryRenamer(name: string | undefined): (entryName: string) => string | undefined {
  let root: string[] | undefined;
  return (entryName) => {
    const parts = componentsOf(entryName);
    root ??= parts;
    if (parts.includes("..") || root.some((part, i) => parts[i] !== part)) {
      throw new SporeletError({
        code: "corrupt",
        operation: "unpack",
        subject: JSON.stringify(entryName),
        reason: "the entry lies outside of what was asked for",
      });
    }
    const rest = parts.slice(root.length);
    const renamed = name === undefined ? rest : [name, ...rest];
    return renamed.length === 0 ? undefined : renamed.join("/");
  };
}

/** The components of a name in a tar: `./a//b/` is a, b. */
function componentsOf(entryName: string): string[] {
  return entryName.split("/").filter((part) => part !== "" && part !== ".");
}
