import type { Output } from "../cli/io.ts";

/** A block of lines at the bottom of a terminal that is redrawn in place. */
export interface Painter extends Disposable {
  /** Draws the lines over those drawn before. They must fit the terminal's width. */
  paint(lines: readonly string[]): void;
  /** Takes the block away and writes these lines where it was; it appears again with the next paint. */
  writeAbove(lines: readonly string[]): void;
  /** Takes the block away and shows the cursor again. */
  clear(): void;
}

const hideCursor = "\x1b[?25l";
const showCursor = "\x1b[?25h";
const eraseLine = "\x1b[2K";

/** The cursor is shown again however the process ends, short of SIGKILL. */
export function createPainter(terminal: Output): Painter {
  let drawn = 0;
  let hidden = false;
  const restore = () => {
    if (hidden) terminal.write(showCursor);
    hidden = false;
  };
  process.on("exit", restore);
  const erased = () => (drawn === 0 ? "" : `\x1b[${drawn}A\r\x1b[J`);
  const clear = () => {
    if (drawn > 0) terminal.write(erased());
    drawn = 0;
    restore();
  };
  return {
    paint(lines) {
      // More lines than the terminal has would scroll away and be drawn again and again.
      const shown = lines.slice(-Math.max(1, (terminal.rows ?? 24) - 1));
      const hide = hidden ? "" : hideCursor;
      hidden = true;
      const up = drawn > 0 ? `\x1b[${drawn}A\r` : "\r";
      terminal.write(`${hide}${up}${shown.map((line) => `${eraseLine}${line}\n`).join("")}\x1b[J`);
      drawn = shown.length;
    },
    writeAbove(lines) {
      terminal.write(`${erased()}${lines.map((line) => `${line}\n`).join("")}`);
      drawn = 0;
    },
    clear,
    [Symbol.dispose]() {
      clear();
      process.off("exit", restore);
    },
  };
}
