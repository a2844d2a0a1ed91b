/** One way to authenticate that a 401 offers. */
export interface Challenge {
  /** In lower case: `bearer`, `basic`. */
  scheme: string;
  /** Names in lower case. */
  parameters: Readonly<Record<string, string>>;
}

// RFC 9110, 5.6.2 and 11.3. A parameter is told from a scheme by its "=".
const pattern = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g;

/** The challenges of a WWW-Authenticate header, in its order. What is not one is passed over. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  for (const [, name = "", quoted, plain] of header.matchAll(pattern)) {
    const value = quoted === undefined ? plain : quoted.replaceAll(/\\(.)/g, "$1");
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: Object.create(null) });
    const parameters = challenges.at(-1)?.parameters;
    if (value !== undefined && parameters !== undefined) parameters[name.toLowerCase()] ??= value;
  }
  return challenges;
}
