import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { SporeletError } from "@sporelet/errors";
import type { Context } from "./context.ts";

/**
 * Asks the person for one line.
 *
 * @param options.secret what is typed is not shown
 * @throws SporeletError `invalid_argument` where nobody can be asked, `cancelled`
 */
export async function ask(
  { io, signal }: Context,
  question: string,
  options: { secret?: boolean; hint: string },
): Promise<string> {
  const context = { operation: `ask for the ${question}` };
  if (io.stdin.isTTY !== true) {
    const reason = "standard input is not a terminal";
    throw new SporeletError({ ...context, code: "invalid_argument", reason, hint: options.hint });
  }
  io.stderr.write(`${question}: `);
  // readline echoes what is typed to its output.
  const output = options.secret ? new Writable({ write: (_chunk, _encoding, done) => done() }) : io.stderr;
  const lines = createInterface({ input: io.stdin, output, terminal: true });
  try {
    // It takes Ctrl-C away from the terminal.
    const interrupted = new AbortController();
    lines.once("SIGINT", () => interrupted.abort());
    lines.once("close", () => interrupted.abort());
    return await lines.question("", { signal: AbortSignal.any([signal, interrupted.signal]) });
  } catch (error) {
    throw SporeletError.from(error, context);
  } finally {
    lines.close();
    if (options.secret) io.stderr.write("\n");
  }
}

/** All of standard input, without the end of its last line. */
export async function readSecret({ io }: Context): Promise<string> {
  return (await text(io.stdin)).replace(/\r?\n$/, "");
}
