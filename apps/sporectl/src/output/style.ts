import { styleText } from "node:util";

/** Marks up text for a person; every function returns the text itself where colour is not wanted. */
export interface Style {
  readonly colour: boolean;
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** Whether a stream takes colour: a terminal that is not dumb, and no NO_COLOR (https://no-color.org). */
export function takesColour(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb";
}

export function createStyle(colour: boolean): Style {
  const paint = (format: Parameters<typeof styleText>[0]) => (text: string) =>
    colour && text !== "" ? styleText(format, text, { validateStream: false }) : text;
  return {
    colour,
    bold: paint("bold"),
    dim: paint("dim"),
    red: paint("red"),
    green: paint("green"),
    yellow: paint("yellow"),
    cyan: paint("cyan"),
  };
}

/** Control sequences of terminals (ECMA-48): ESC [ or CSI, parameters, final byte. */
const escapes = /\p{Cc}\[[0-9;?]*[A-Za-z]/gu;

/** Columns that a text takes on a terminal: without escape sequences, wide characters counted twice. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text.replace(escapes, "")) width += isWide(character.codePointAt(0) ?? 0) ? 2 : 1;
  return width;
}

/** East Asian wide and emoji blocks (Unicode UAX #11), coarsely. */
function isWide(point: number): boolean {
  return (
    (point >= 0x1100 && point <= 0x115f) ||
    (point >= 0x2e80 && point <= 0xa4cf) ||
    (point >= 0xac00 && point <= 0xd7a3) ||
    (point >= 0xf900 && point <= 0xfaff) ||
    (point >= 0xfe30 && point <= 0xfe6f) ||
    (point >= 0xff00 && point <= 0xff60) ||
    (point >= 0x1f300 && point <= 0x1faff)
  );
}

/** Cuts a text without escape sequences so that it takes at most `columns`, with an ellipsis. */
export function truncate(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let width = 0;
  let kept = "";
  for (const character of text) {
    width += displayWidth(character);
    if (width > columns - 1) break;
    kept += character;
  }
  return columns > 0 ? `${kept}…` : "";
}

/**
 * A text from elsewhere (a guest's log, a server's message) without what could steer the terminal: control
 * characters except newline and tab become visible.
 */
export function printable(text: string): string {
  return text
    .replace(escapes, "")
    .replace(/\r\n?/g, "\n")
    .replace(/(?![\n\t])\p{Cc}/gu, "\ufffd");
}

/** The same on one line: what a terminal would show last. Empty when there is nothing to show. */
export function oneLine(text: string): string {
  const lines = printable(text)
    .split("\n")
    .map((line) => line.replaceAll("\t", " ").trim());
  return lines.findLast((line) => line !== "") ?? "";
}
