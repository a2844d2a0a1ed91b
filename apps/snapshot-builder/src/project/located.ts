/**
 * YAML whose every value knows where it stands, so that whatever is wrong with it is said with file, line,
 * column and the line itself.
 */
import { nearest, SporeletError } from "@sporelet/errors";
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { parseBytes, parseDurationMs } from "./quantities.ts";

/** A value in a YAML file. Its methods throw `invalid_argument` when it is not what they ask for. */
export interface Located {
  /** `images[0].name`; empty for the whole file. */
  readonly path: string;
  /** The value as plain data, aliases and merge keys resolved. */
  readonly plain: unknown;
  fail(reason: string, hint?: string): never;
  /** The members of a mapping. With `known`, any other name is refused. */
  members(known?: readonly string[]): Map<string, Located>;
  items(): Located[];
  /** A number or boolean counts as the text that it was written as. */
  string(): string;
  integer(range?: { min?: number; max?: number }): number;
  boolean(): boolean;
  bytes(): number;
  durationMs(): number;
  isMapping(): boolean;
  isList(): boolean;
  isEmpty(): boolean;
}

/**
 * @param file what to call the file in errors
 * @throws SporeletError `invalid_argument` at the first syntax error
 */
export function parseYaml(text: string, file: string): Located {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    merge: true,
    strict: true,
  });
  const failAt = (offset: number, reason: string, hint?: string): never => {
    const { line, col } = lines.linePos(offset);
    throw new SporeletError({
      code: "invalid_argument",
      operation: "read",
      subject: `${file}:${line}:${col}`,
      reason,
      hint,
      log: excerpt(text, line, col),
    });
  };
  const [error] = document.errors;
  if (error !== undefined) failAt(error.pos[0], firstLine(error.message));
  return locate(document.contents, "", 0, { document, failAt });
}

interface Context {
  document: Document;
  failAt(offset: number, reason: string, hint?: string): never;
}

function locate(written: Node | null, path: string, parentOffset: number, context: Context): Located {
  const { document, failAt } = context;
  const node = isAlias(written) ? (written.resolve(document) ?? null) : written;
  const offset = written?.range?.[0] ?? parentOffset;
  const what = path === "" ? "the file" : path;
  const fail = (reason: string, hint?: string): never => failAt(offset, reason, hint);
  const found = () => (node === null ? "nothing" : shown(node));
  const source = () =>
    isScalar(node) && node.value !== null ? String(node.source ?? node.value) : undefined;
  const parsed = <T>(parse: (text: string) => T | undefined, wanted: string): T => {
    const text = source();
    const value = text === undefined ? undefined : parse(text);
    return value === undefined ? fail(`${what} must be ${wanted}, not ${found()}`) : value;
  };
  return {
    path,
    get plain() {
      return node === null ? null : node.toJS(document, { maxAliasCount: 100 });
    },
    fail,
    members(known) {
      const members = new Map<string, Located>();
      const merged: Located[] = [];
      if (isEmpty(node)) return members;
      if (!isMap(node)) return fail(`${what} must be a mapping, not ${found()}`);
      for (const pair of node.items) {
        const key = pair.key as Node;
        const name = isScalar(key) ? String(key.source ?? key.value) : shown(key);
        if (name === "<<" && known === undefined) {
          merged.push(locate(pair.value as Node | null, path, offset, context));
          continue;
        }
        if (known !== undefined && !known.includes(name)) {
          failAt(key.range?.[0] ?? offset, `unknown key "${name}"`, suggestion(name, known));
        }
        const child = path === "" ? name : `${path}.${name}`;
        members.set(name, locate(pair.value as Node | null, child, key.range?.[0] ?? offset, context));
      }
      // What the mapping says itself comes before what it merges, and earlier merges before later ones.
      for (const one of merged.flatMap((value) => (value.isList() ? value.items() : [value]))) {
        for (const [name, value] of one.members()) if (!members.has(name)) members.set(name, value);
      }
      return members;
    },
    items() {
      if (isEmpty(node)) return [];
      if (!isSeq(node)) return fail(`${what} must be a list, not ${found()}`);
      return node.items.map((item, index) =>
        locate(item as Node | null, `${path}[${index}]`, offset, context),
      );
    },
    string: () => parsed((text) => text, "a text"),
    integer({ min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = {}) {
      const value = parsed((text) => (/^-?\d+$/.test(text) ? Number(text) : undefined), "a whole number");
      return value < min || value > max ? fail(`${what} must be from ${min} to ${max}, not ${value}`) : value;
    },
    boolean: () => parsed((text) => ({ true: true, false: false })[text], "true or false"),
    bytes: () => parsed(parseBytes, 'a size such as "512MiB" or "4GiB"'),
    durationMs: () => parsed(parseDurationMs, 'a duration such as "90s" or "1m30s"'),
    isMapping: () => isMap(node),
    isList: () => isSeq(node),
    isEmpty: () => isEmpty(node),
  };
}

function isEmpty(node: Node | null): boolean {
  return node === null || (isScalar(node) && node.value === null);
}

function shown(node: Node): string {
  if (isMap(node)) return "a mapping";
  if (isSeq(node)) return "a list";
  if (isScalar(node))
    return node.value === null ? "nothing" : JSON.stringify(String(node.source ?? node.value));
  return "something else";
}

function suggestion(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near.length > 0 ? `did you mean ${near.join(" or ")}?` : `known keys: ${known.join(", ")}`;
}

function firstLine(text: string): string {
  return (text.split("\n")[0] ?? "").replace(/[.:]$/, "");
}

function excerpt(text: string, line: number, column: number): string {
  const number = `${line} | `;
  return `${number}${text.split("\n")[line - 1] ?? ""}\n${" ".repeat(number.length + column - 1)}^`;
}
