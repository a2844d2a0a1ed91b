/**
 * Stores snapshots one after the other until it is killed: `node committer.ts ROOT`. Before each commit it
 * says the number, after it that it is done.
 */
import { openStore } from "../index.ts";
import { addSnapshot } from "./snapshot.ts";

const store = await openStore({ root: process.argv[2] ?? "" });
for (let i = 0; ; i++) {
  process.stdout.write(`begin ${i}\n`);
  await addSnapshot(store, `n${i % 3}`, { content: `${process.pid} ${i}` });
  process.stdout.write(`done ${i}\n`);
}
