#!/usr/bin/env node
import { closeSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Readiness, sporeletHome } from "@sporelet/api";
import { exitCodeOf, SporeletError } from "@sporelet/errors";
import { version } from "./version.ts";

const usage = `usage: spored [--home DIR] [--idle-exit SECONDS]

Owns the machines and the store of one SPORELET_HOME. sporectl starts it when it is needed.

  --home DIR            where state is kept (default: SPORELET_HOME, else /var/lib/sporelet for root)
  --idle-exit SECONDS   end after so long without machines, calls and builds (default: 0, never)
  --readiness-fd FD     write one line of JSON there when it answers, or why it does not
  --version             print the version
`;

/** Says to whoever started us, once, how the start went. */
function readinessWriter(fd: number | undefined): (readiness: Readiness) => void {
  let said = fd === undefined;
  return (readiness) => {
    if (said || fd === undefined) return;
    said = true;
    try {
      writeSync(fd, `${JSON.stringify(readiness)}\n`);
      closeSync(fd);
    } catch {
      // Who started us has gone; serving goes on.
    }
  };
}

async function main(): Promise<number> {
  if (process.argv[2] === "lazy-server") {
    // Loads little: there may be many of it.
    const { runLazyServer } = await import("./lazy/main.ts");
    await runLazyServer();
    return Number(process.exitCode ?? 0);
  }
  const { values } = parseArgs({
    options: {
      home: { type: "string", default: sporeletHome() },
      "idle-exit": { type: "string", default: "0" },
      "readiness-fd": { type: "string" },
      version: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return print(usage);
  if (values.version) return print(`${version}\n`);
  const idleExitMs = Number(values["idle-exit"]) * 1000;
  if (!(idleExitMs >= 0)) throw new TypeError("--idle-exit takes a number of seconds");
  const fd = values["readiness-fd"] === undefined ? undefined : Number(values["readiness-fd"]);
  const ready = readinessWriter(fd);
  try {
    const { runDaemon } = await import("./daemon.ts");
    await runDaemon({ home: values.home, idleExitMs, onReady: (node) => ready({ ready: node }) });
    return 0;
  } catch (error) {
    const ours = SporeletError.from(error, { operation: "start spored", subject: `for ${values.home}` });
    ready({ error: { ...ours.toJSON(), code: ours.code, operation: ours.operation, reason: ours.reason } });
    process.stderr.write(`${ours.message}${ours.hint === undefined ? "" : `\n${ours.hint}`}\n`);
    return exitCodeOf(ours);
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

try {
  // Not merely an exit code: connections to machines that go on running would keep the process alive.
  process.exit(await main());
} catch (error) {
  // Only a wrong command line comes here.
  process.stderr.write(`spored: ${error instanceof Error ? error.message : String(error)}\n${usage}`);
  process.exitCode = 2;
}
