import { UsageError } from "./usage.ts";

/** One `-p`: `host` 0 means any free port; no `hostAddress` means 127.0.0.1. */
export interface PortOption {
  host: number;
  guest: number;
  hostAddress?: string;
}

/** Reads `GUEST`, `HOST:GUEST`, `ADDRESS:HOST:GUEST` and `ADDRESS::GUEST`; an IPv6 address stands in brackets. */
export function parsePort(text: string): PortOption {
  const match =
    /^(?:(?:(?<address>\[[^\]]+\]|[^:[\]]+):(?=[^:]*:))?(?<host>\d*):)?(?<guest>\d+)(?:\/tcp)?$/.exec(text);
  const wanted = "give HOST:GUEST, GUEST or ADDRESS:HOST:GUEST, for example -p 8080:80";
  if (match?.groups === undefined) throw new UsageError(`${text} is not a port mapping`, wanted);
  const { address, host, guest } = match.groups;
  const mapping: PortOption = { host: host ? portNumber(host, 0) : 0, guest: portNumber(guest ?? "", 1) };
  if (address !== undefined) mapping.hostAddress = address.replace(/^\[|\]$/g, "");
  return mapping;
}

function portNumber(text: string, smallest: number): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < smallest || port > 65_535) {
    throw new UsageError(`${text} is not a port`, "ports go from 1 to 65535");
  }
  return port;
}

const unitsMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Reads `30s`, `1m30s`, `500ms`, or seconds without a unit. @returns milliseconds */
export function parseDuration(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return checkedDuration(Math.round(Number(text) * 1000), text);
  let ms = 0;
  let rest = text;
  while (rest !== "") {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)/.exec(rest);
    if (match === null)
      throw new UsageError(`${text} is not a duration`, "give for example 30s, 2m or 500ms");
    ms += Number(match[1]) * (unitsMs[match[2] ?? ""] ?? 0);
    rest = rest.slice(match[0].length);
  }
  if (text === "") throw new UsageError("a duration is missing", "give for example 30s, 2m or 500ms");
  return checkedDuration(Math.round(ms), text);
}

/** Durations travel as uint32 milliseconds. */
function checkedDuration(ms: number, text: string): number {
  if (ms > 0xffffffff) throw new UsageError(`${text} is too long a duration`, "the longest is 49 days");
  return ms;
}

/** A parser of whole numbers from `smallest` to `largest`. */
export function integer(smallest: number, largest: number, what: string): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < smallest || number > largest) {
      throw new UsageError(
        `${text === "" ? "nothing" : text} is not ${what}`,
        `give a whole number from ${smallest} to ${largest}`,
      );
    }
    return number;
  };
}

/** A parser of numbers from `smallest` to `largest`, with or without a fraction. */
export function numberBetween(smallest: number, largest: number, what: string): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d*\.?\d+$/.test(text) || number < smallest || number > largest) {
      throw new UsageError(
        `${text === "" ? "nothing" : text} is not ${what}`,
        `give a number from ${smallest} to ${largest}`,
      );
    }
    return number;
  };
}

/** Reads the name of a trust domain. */
export function parseDomain(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text)) return text;
  throw new UsageError(
    `${text === "" ? "nothing" : text} is not the name of a trust domain`,
    'give letters, digits, ".", "_" and "-", at most 63',
  );
}

/** A parser of one of a few words. */
export function oneOf<const T extends string>(words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) throw new UsageError(`${text} is none of ${words.join(", ")}`);
    return word;
  };
}

/**
 * Reads one `-e`: `K=V`, or `K` whose value comes from the caller's own environment.
 * @returns undefined for a `K` that is not set there, as `docker run -e` does
 */
export function parseVariable(text: string, env: NodeJS.ProcessEnv): [string, string] | undefined {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  if (name === "" || /\s/.test(name)) {
    throw new UsageError(
      `${text} is not an environment variable`,
      "give K=V, or K to pass on your own value",
    );
  }
  if (at >= 0) return [name, text.slice(at + 1)];
  const own = env[name];
  return own === undefined ? undefined : [name, own];
}

/** Reads an environment file: `K=V` or `K` per line, `#` begins a comment line; values are taken as they are. */
export function parseEnvFile(content: string, env: NodeJS.ProcessEnv): Record<string, string> {
  const lines = content.split(/\r?\n/).map((line) => line.trimStart());
  return collectVariables(
    lines.filter((line) => line !== "" && !line.startsWith("#")),
    env,
  );
}

/** All of several `-e`; later ones win. */
export function collectVariables(texts: readonly string[], env: NodeJS.ProcessEnv): Record<string, string> {
  const entries = texts.map((text) => parseVariable(text, env)).filter((entry) => entry !== undefined);
  return Object.fromEntries(entries);
}
