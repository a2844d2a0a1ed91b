/**
 * Compose's `${VAR}` in values, as far as a builder has to see through it: docker-compose in the guest does
 * the real work with the same `.env`. Forms: `$VAR ${VAR} ${VAR:-or} ${VAR-or} ${VAR:?why} ${VAR?why} $$`.
 */
export type Variables = ReadonlyMap<string, string>;

/** @throws Error that says which variable is required, or that the text is malformed */
export function interpolate(text: string, variables: Variables): string {
  return text.replaceAll(/\$(?:(\$)|(\w+)|\{([^}]*)\}|)/g, (match, escaped, plain, braced) => {
    if (escaped !== undefined) return "$";
    if (plain !== undefined) return variables.get(plain) ?? "";
    const [, name = "", operator, rest = ""] = /^(\w+)(?:(:?[-?])(.*))?$/s.exec(braced ?? "") ?? [];
    if (name === "") throw new Error(`"${match}" is no variable (write $$ for a dollar sign)`);
    const value = variables.get(name);
    const absent = value === undefined || (operator?.startsWith(":") === true && value === "");
    if (!absent || operator === undefined) return value ?? "";
    if (operator.endsWith("?"))
      throw new Error(`the variable ${name} is required${rest === "" ? "" : `: ${rest}`}`);
    return rest;
  });
}

/** Reads a `.env` file: `NAME=value` lines, quotes around values taken off, `#` starts a comment. */
export function parseEnvFile(text: string): Map<string, string> {
  const variables = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, raw = ""] = /^\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined) continue;
    const quoted = /^(["'])(.*)\1$/.exec(raw);
    variables.set(name, quoted?.[2] ?? raw.replace(/\s+#.*$/, ""));
  }
  return variables;
}
