import { exitCodeOf, SporeletError } from "@sporelet/errors";
import { families, groups } from "../commands/index.ts";
import { createStyle, takesColour } from "../output/style.ts";
import type { CommandDefinition } from "./command.ts";
import { createContext } from "./context.ts";
import { createInterrupts } from "./interrupts.ts";
import { flushed, type Io } from "./io.ts";
import { parseCommandLine } from "./program.ts";
import { version } from "./version.ts";

/**
 * Runs one command line from end to end.
 * @param argv without the names of interpreter and program
 * @returns the exit code, once everything is written
 */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  using interrupts = createInterrupts(io);
  let json = false;
  try {
    const parsed = await parseCommandLine(argv, {
      groups,
      families,
      version,
      columns: io.stdout.columns ?? 100,
    });
    if (parsed.kind === "text") {
      io.stdout.write(parsed.text);
      return 0;
    }
    json = parsed.options.json === true;
    using context = createContext(io, interrupts, {
      command: `sporectl ${parsed.definition.name}`,
      home: parsed.options.home as string | undefined,
      json,
      quiet: parsed.options.quiet === true,
    });
    const { action } = await (parsed.definition as CommandDefinition).load();
    const code = await action(context, parsed.args as never, parsed.options as never);
    return code ?? 0;
  } catch (error) {
    return await failed(error, io, interrupts.exitCode, json || argv.includes("--json"));
  } finally {
    await flushed(io.stdout);
    await flushed(io.stderr);
  }
}

/** Says what went wrong. With --json standard output holds one document, whatever happens. */
async function failed(
  error: unknown,
  io: Io,
  interrupted: number | undefined,
  json: boolean,
): Promise<number> {
  const code = interrupted ?? exitCodeOf(error);
  // Whoever closed our output does not want to hear of it (`sporectl … | head`).
  if (interrupted === 128 + 13) return code;
  const ours = SporeletError.from(error, { operation: "finish" });
  const { errorDocument, errorLines, errorTrace } = await import("../output/report-error.ts");
  if (json) io.stdout.write(`${JSON.stringify(errorDocument(ours), undefined, 2)}\n`);
  if (interrupted !== undefined && ours.code === "cancelled") {
    io.stderr.write("cancelled\n");
    return code;
  }
  const style = createStyle(takesColour(io.stderr, io.env));
  io.stderr.write(`${errorLines(ours, style, io.stderr.columns).join("\n")}\n`);
  if (io.env.SPORELET_DEBUG) io.stderr.write(`${errorTrace(error)}\n`);
  else if (ours.code === "internal") {
    io.stderr.write("This looks like a defect of Sporelet; SPORELET_DEBUG=1 shows where it arose.\n");
  }
  return code;
}
