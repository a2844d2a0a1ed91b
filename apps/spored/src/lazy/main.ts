/** The process that serves lazy files: `spored lazy-server`, which spored starts and nobody else. */
import { writeSync } from "node:fs";
import { text } from "node:stream/consumers";
import { SporeletError } from "@sporelet/errors";
import type { ServerReadiness, ServerSpec } from "./spec.ts";

/** Reads its spec from stdin, says on stdout whether it is ready, and serves until nobody needs it. */
export async function runLazyServer(): Promise<void> {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => stop.abort(name));
  process.on("SIGHUP", () => {});
  process.on("uncaughtException", (error) => {
    process.stderr.write(`lazy files: ${error.stack}\n`);
    // An orderly end would wait for the thread that waits for requests; spored clears the mount away.
    process.kill(process.pid, "SIGKILL");
  });
  const ready = readinessWriter();
  const spec = JSON.parse(await text(process.stdin)) as ServerSpec;
  try {
    const onReady = () => ready({ ready: true });
    if (spec.kind === "record") {
      const { runRecordServer } = await import("./record-server.ts");
      await runRecordServer(spec, stop.signal, onReady);
    } else {
      const { runFetchServer } = await import("./fetch-server.ts");
      await runFetchServer(spec, stop.signal, onReady);
    }
  } catch (error) {
    const ours = SporeletError.from(error, { operation: "serve the files of", subject: spec.name });
    ready({ error: ours.toJSON() });
    process.stderr.write(`lazy files of ${spec.name}: ${ours.message}\n`);
    process.exitCode = 1;
  }
}

function readinessWriter(): (readiness: ServerReadiness) => void {
  const stdout = 1;
  let said = false;
  return (readiness) => {
    if (said) return;
    said = true;
    try {
      writeSync(stdout, `${JSON.stringify(readiness)}\n`);
    } catch {
      // Who started us has gone; machines may need us all the same.
    }
  };
}
