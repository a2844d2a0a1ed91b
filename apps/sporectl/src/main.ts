#!/usr/bin/env node
import module from "node:module";
import { version } from "./cli/version.ts";

// Compiled code is kept between calls: most of what a short command costs is compiling this program.
module.enableCompileCache();

if (process.argv.length === 3 && (process.argv[2] === "--version" || process.argv[2] === "-V")) {
  process.stdout.write(`sporectl ${version}\n`);
} else {
  const [{ runCli }, { processIo }, { endingSignals }] = await Promise.all([
    import("./cli/run.ts"),
    import("./cli/io.ts"),
    import("./cli/interrupts.ts"),
  ]);
  // What arrives when the command is done, and is just about to say so, changes nothing any more.
  for (const name of endingSignals) process.on(name, () => {});
  // A connection that is still open, or a terminal being read, must not hold the process.
  process.exit(await runCli(process.argv.slice(2), processIo()));
}
