import path from "node:path";
import type { NodeClient } from "@sporelet/api";
import { createStyle, type Style, takesColour } from "../output/style.ts";
import type { Interrupts } from "./interrupts.ts";
import type { Io } from "./io.ts";

/** What an action works with. */
export interface Context {
  readonly io: Io;
  /** As the person typed it: `sporectl run`. */
  readonly command: string;
  /** Absolute path of the state directory. */
  readonly home: string;
  readonly json: boolean;
  readonly quiet: boolean;
  /** For standard output. */
  readonly style: Style;
  /** For standard error. */
  readonly errorStyle: Style;
  /** Aborted when the person or the system wants the command to end. */
  readonly signal: AbortSignal;
  readonly interrupts: Interrupts;
  /** The daemon, started when none runs. */
  node(): Promise<NodeClient>;
  /** The daemon when one runs. */
  runningNode(): Promise<NodeClient | undefined>;
  /** Lines to standard output. */
  print(...lines: string[]): void;
  /** One JSON document to standard output; on one line for streams of documents. */
  printJson(document: unknown, form?: "document" | "line"): void;
  /** A line for the person, to standard error; not with --quiet. */
  note(text: string): void;
  [Symbol.dispose](): void;
}

export interface ContextOptions {
  command: string;
  home: string | undefined;
  json: boolean;
  quiet: boolean;
}

export function createContext(io: Io, interrupts: Interrupts, options: ContextOptions): Context {
  const { command, json, quiet } = options;
  const clients: NodeClient[] = [];
  const errorStyle = createStyle(takesColour(io.stderr, io.env));
  const note = (text: string) => {
    if (!quiet) io.stderr.write(`${text}\n`);
  };
  let home: string | undefined;
  const context: Context = {
    io,
    command,
    get home() {
      home ??= options.home !== undefined ? path.resolve(io.cwd, options.home) : defaultHome(io);
      return home;
    },
    json,
    quiet,
    style: createStyle(takesColour(io.stdout, io.env)),
    errorStyle,
    signal: interrupts.signal,
    interrupts,
    async node() {
      const { connect } = await import("./connect.ts");
      const client = await connect(context);
      clients.push(client);
      return client;
    },
    async runningNode() {
      const { connectRunning } = await import("./connect.ts");
      const client = await connectRunning(context);
      if (client !== undefined) clients.push(client);
      return client;
    },
    print(...lines) {
      for (const line of lines) io.stdout.write(`${line}\n`);
    },
    printJson(document, form = "document") {
      io.stdout.write(`${JSON.stringify(document, undefined, form === "document" ? 2 : 0)}\n`);
    },
    note,
    [Symbol.dispose]() {
      for (const client of clients) client[Symbol.dispose]();
    },
  };
  return context;
}

/** As `sporeletHome` of @sporelet/api, which a command that calls nobody does not load. */
function defaultHome(io: Io): string {
  if (io.env.SPORELET_HOME) return path.resolve(io.cwd, io.env.SPORELET_HOME);
  if (process.getuid?.() === 0) return "/var/lib/sporelet";
  return path.join(io.env.XDG_DATA_HOME || path.join(io.env.HOME || "/", ".local/share"), "sporelet");
}
