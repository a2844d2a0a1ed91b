/**
 * Which kernel modules an initramfs needs, and in which order they have to be loaded.
 */

/** Module path to the paths of the modules it needs, as `depmod` writes them. */
export type ModuleDependencies = ReadonlyMap<string, readonly string[]>;

/** Reads `modules.dep`: lines of `path: path path …`. */
export function parseModulesDep(text: string): ModuleDependencies {
  const dependencies = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    dependencies.set(
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(" ")
        .filter(Boolean),
    );
  }
  return dependencies;
}

/** The name by which the kernel knows a module file: no directory, no suffix, dashes as underscores. */
export function moduleName(path: string): string {
  return path
    .replace(/^.*\//, "")
    .replace(/\.ko(\.\w+)?$/, "")
    .replaceAll("-", "_");
}

/**
 * The files of the wanted modules and of all that they need, each after what it needs.
 *
 * @param builtin text of `modules.builtin`; wanted modules found there need no file
 * @returns `missing` holds the wanted names that the kernel has in neither form
 */
export function loadOrder(
  wanted: readonly string[],
  dependencies: ModuleDependencies,
  builtin: string,
): { files: string[]; missing: string[] } {
  const byName = new Map([...dependencies.keys()].map((path) => [moduleName(path), path]));
  const builtinNames = new Set(builtin.split("\n").filter(Boolean).map(moduleName));
  const files: string[] = [];
  const missing: string[] = [];
  const visited = new Set<string>();
  const visit = (path: string) => {
    if (visited.has(path)) return;
    visited.add(path);
    for (const needed of dependencies.get(path) ?? []) visit(needed);
    files.push(path);
  };
  for (const name of wanted) {
    const path = byName.get(moduleName(name));
    if (path !== undefined) visit(path);
    else if (!builtinNames.has(moduleName(name))) missing.push(name);
  }
  return { files, missing };
}
