/**
 * The union of scopes, in one order and with the actions of each resource together, so that equal wishes share a
 * token: `repository:a:pull` and `repository:a:push` become `repository:a:pull,push`.
 *
 * A scope is `type:name:actions`, and a name may hold colons (distribution: "Token Scope Documentation"). One
 * text may hold several scopes with spaces between them.
 */
export function mergeScopes(scopes: Iterable<string>): string[] {
  const actions = new Map<string, Set<string>>();
  for (const scope of [...scopes].flatMap((text) => text.split(" ")).filter((text) => text !== "")) {
    const colon = scope.lastIndexOf(":");
    const resource = scope.slice(0, Math.max(0, colon));
    const known = actions.get(resource) ?? new Set();
    for (const action of scope.slice(colon + 1).split(",")) known.add(action);
    actions.set(resource, known);
  }
  return [...actions]
    .map(([resource, names]) =>
      resource === "" ? [...names].sort().join(",") : `${resource}:${[...names].sort().join(",")}`,
    )
    .sort();
}
