/** usage: spored-to-kill.ts HOME START_FILE. Starts a machine `one` lazily and waits for the end that comes. */
import { readFileSync } from "node:fs";
import type { LazyStart } from "../types.ts";
import { openLocalNode } from "./local-node.ts";

const [home = "", file = ""] = process.argv.slice(2);
const { configText, ...rest } = JSON.parse(readFileSync(file, "utf8"));
const start = { ...rest, configBytes: Buffer.from(configText) } as LazyStart;
const local = await openLocalNode(home);
const lease = await local.node.lazy.start(start, new AbortController().signal);
await local.run(lease, "one");
process.stdout.write("ready\n");
setInterval(() => {}, 1_000);
