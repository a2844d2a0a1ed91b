import type { ArgumentDefinition, Completion } from "./command.ts";

/** An argument that must be there. */
export function one(name: string, description: string, complete?: Completion): ArgumentDefinition<string> {
  return { name, description, required: true, variadic: false, ...(complete && { complete }) };
}

/** An argument that may be left out. */
export function maybe(
  name: string,
  description: string,
  complete?: Completion,
): ArgumentDefinition<string | undefined> {
  return { name, description, required: false, variadic: false, ...(complete && { complete }) };
}

/** All arguments that follow, at least one. */
export function oneOrMore(
  name: string,
  description: string,
  complete?: Completion,
): ArgumentDefinition<string[]> {
  return { name, description, required: true, variadic: true, ...(complete && { complete }) };
}

/** All arguments that follow, if any. */
export function anyNumber(
  name: string,
  description: string,
  complete?: Completion,
): ArgumentDefinition<string[]> {
  return { name, description, required: false, variadic: true, ...(complete && { complete }) };
}
