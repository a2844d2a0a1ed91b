import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { groups } from "../commands/index.ts";
import { exitCodesPage } from "./exit-codes.ts";
import { referencePages } from "./reference.ts";

// Compares docs/cli and docs/exit-codes.md with what the commands say; with --write makes them.
const docs = path.join(import.meta.dirname, "../../../../docs");
const wanted = new Map(
  [...referencePages(groups)].map(([file, text]) => [path.join(docs, "cli", file), text]),
);
wanted.set(path.join(docs, "exit-codes.md"), exitCodesPage());
mkdirSync(path.join(docs, "cli"), { recursive: true });
const present = readdirSync(path.join(docs, "cli")).map((file) => path.join(docs, "cli", file));
const stale = [...wanted]
  .filter(([file, text]) => !existsSync(file) || readFileSync(file, "utf8") !== text)
  .map(([file]) => file);
const left = present.filter((file) => !wanted.has(file));

if (process.argv.includes("--write")) {
  for (const file of stale) writeFileSync(file, wanted.get(file) ?? "");
  for (const file of left) rmSync(file);
  process.stderr.write(
    `${stale.length} written, ${left.length} removed, ${wanted.size - stale.length} up to date\n`,
  );
} else if (stale.length + left.length > 0) {
  for (const file of [...stale, ...left])
    process.stderr.write(`differs from the commands: ${path.relative(path.dirname(docs), file)}\n`);
  process.stderr.write("mend it with: tools/check-cli-reference --write\n");
  process.exitCode = 1;
}
