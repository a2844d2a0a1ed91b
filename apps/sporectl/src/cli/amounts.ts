import { UsageError } from "./usage.ts";

const unitsMs: Record<string, number> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/** Reads an age: `7d`, `2w`, `36h`, `1d12h`. @returns milliseconds, at least 1 */
export function parseAge(text: string): number {
  const wanted = "give for example 7d, 36h or 2w";
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)([smhdw])/g)];
  if (text === "" || parts.map(([part]) => part).join("") !== text) {
    throw new UsageError(`${text === "" ? "nothing" : text} is not an age`, wanted);
  }
  const ms = Math.round(
    parts.reduce((sum, [, count, unit]) => sum + Number(count) * (unitsMs[unit ?? ""] ?? 0), 0),
  );
  if (ms < 1 || !Number.isSafeInteger(ms)) throw new UsageError(`${text} is not an age`, wanted);
  return ms;
}

/** Reads a rate: a size per second, `20MiB` or `20MiB/s`. @returns bytes per second, at least 1 */
export function parseRate(text: string): number {
  return parseSize(text.replace(/\/s$/i, ""));
}

const unitsBytes: Record<string, number> = { "": 1 };
for (const [power, letter] of [..."KMGTP"].entries()) {
  unitsBytes[letter] = unitsBytes[`${letter}I`] = 1024 ** (power + 1);
  unitsBytes[`${letter}B`] = 1000 ** (power + 1);
}

/**
 * Reads a size: `20GiB`, `20G` (the same), `20GB` (powers of 1000), `1.5T`, or bytes without a unit.
 * @returns bytes, at least 1
 */
export function parseSize(text: string): number {
  const wanted = "give for example 20GiB or 500MiB";
  const match = /^(\d+(?:\.\d+)?) ?([KMGTP]?)(I?B?)$/i.exec(text);
  if (match === null) throw new UsageError(`${text === "" ? "nothing" : text} is not a size`, wanted);
  const [, count, letter = "", rest = ""] = match;
  // "GiB" and "GI" are 1024³, "GB" is 1000³; "B" alone says bytes.
  const unit = letter === "" ? "" : letter + rest.replace(/^IB$/i, "I");
  const bytes = Math.round(Number(count) * (unitsBytes[unit.toUpperCase()] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes < 1 || (letter === "" && /I/i.test(rest))) {
    throw new UsageError(`${text} is not a size`, wanted);
  }
  return bytes;
}
