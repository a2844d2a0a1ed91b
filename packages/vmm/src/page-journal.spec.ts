import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { dataExtents, pageBytes } from "@sporelet/host";
import { temporaryDirectory } from "@sporelet/host/testing";
import { expect, it } from "vitest";
import { applyPageJournal, writePageJournal } from "./page-journal.ts";

const pages = 4096;
const page = (byte: number, count = 1) => Buffer.alloc(count * pageBytes, byte);
const at = (index: number) => index * pageBytes;
const bootAt = 36 + 24;

/** A memory that began as pages of ones, and the journal of changes to it. */
async function journaled(directory: string) {
  const memory = join(directory, "memory");
  const journal = join(directory, "pages");
  await writeFile(memory, page(1, pages));
  // More than is applied at a time, and more pieces than one call takes.
  const many = Array.from({ length: 1500 }, (_, i) => ({ offset: at(2 * i + 10), content: page(3) }));
  const batches = [
    [{ offset: at(2), content: page(2, 3) }, ...many],
    [{ offset: at(4000), content: page(0) }],
  ];
  await writePageJournal(journal, batches, [{ offset: at(4050), length: at(2) }]);
  return { memory, journal };
}

/** Makes a journal one of an earlier start of the host. */
async function asBeforeReboot(journal: string): Promise<void> {
  await using file = await open(journal, "r+");
  const { size } = await file.stat();
  await file.write("00000000-0000-4000-8000-000000000000", size - bootAt, "latin1");
}

it("is not needed while the host that wrote it runs", async () => {
  await using directory = await temporaryDirectory();
  const { memory, journal } = await journaled(directory.path);
  expect(await applyPageJournal(journal, memory)).toBe(false);
  expect((await readFile(memory)).equals(page(1, pages))).toBe(true);
});

it("completes a memory after the host's end, as often as it is asked to", async () => {
  await using directory = await temporaryDirectory();
  const { memory, journal } = await journaled(directory.path);
  await asBeforeReboot(journal);
  const expected = page(1, pages);
  expected.fill(2, at(2), at(5));
  for (let i = 0; i < 1500; i++) expected.fill(3, at(2 * i + 10), at(2 * i + 11));
  expected.fill(0, at(4000), at(4001));
  expected.fill(0, at(4050), at(4052));
  for (let round = 0; round < 2; round++) {
    expect(await applyPageJournal(journal, memory)).toBe(true);
    expect((await readFile(memory)).equals(expected)).toBe(true);
  }
  const holds = (index: number, extents: { offset: number; length: number }[]) =>
    extents.some(({ offset, length }) => offset <= at(index) && at(index) < offset + length);
  const data = await dataExtents(memory);
  expect([4000, 4050, 4051, 4060].map((index) => holds(index, data))).toEqual([false, false, false, true]);
});

it("refuses a journal that is damaged, and leaves the memory alone", async () => {
  await using directory = await temporaryDirectory();
  const { memory, journal } = await journaled(directory.path);
  await asBeforeReboot(journal);
  const whole = await readFile(journal);
  const cuts = [0, 10, whole.length - 1, whole.length - pageBytes, whole.length / 2];
  for (const length of cuts) {
    await truncate(journal, Math.floor(length));
    await expect(applyPageJournal(journal, memory)).rejects.toMatchObject({ code: "corrupt" });
    await writeFile(journal, whole);
  }
  const wrongIndex = Buffer.from(whole);
  wrongIndex.writeBigUInt64LE(BigInt(at(4)), 1504 * pageBytes + 8);
  await writeFile(journal, wrongIndex);
  await expect(applyPageJournal(journal, memory)).rejects.toMatchObject({
    code: "corrupt",
    reason: expect.stringContaining("index"),
  });
  expect((await readFile(memory)).equals(page(1, pages))).toBe(true);
});
