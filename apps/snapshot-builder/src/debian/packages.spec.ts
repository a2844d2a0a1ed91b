import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "@sporelet/host/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { candidate, unpackPackage } from "./packages.ts";

/** Stand-ins for apt, for what the real one does only at times: a lock that is held, a file that is gone. */
const aptCache = `[ -e "$STATE/index" ] || exit 100
printf 'Package: %s\\nVersion: %s\\nDepends: one (>= 1), two\\n' "$4" "$(cat "$STATE/index")"`;
const aptGet = `echo "$*" >>"$STATE/calls"
case "$*" in
*update)
  if [ -e "$STATE/locked" ]; then
    rm "$STATE/locked"
    echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)" >&2
    exit 100
  fi
  [ ! -e "$STATE/offline" ] || exit 100
  echo 2 >"$STATE/index" ;;
*download*=2) mkdir -p tree/DEBIAN tree/etc && echo here >tree/etc/file &&
  printf 'Package: some\\nVersion: 2\\nArchitecture: all\\nMaintainer: none\\nDescription: none\\n' >tree/DEBIAN/control &&
  dpkg-deb --build tree some.deb >/dev/null && rm -r tree ;;
*) echo "E: Failed to fetch: 404 Not Found" >&2; exit 100 ;;
esac`;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const { PATH } = process.env;
beforeEach(async () => {
  directory = await temporaryDirectory();
  await mkdir(at("bin"));
  for (const [name, script] of [
    ["apt-cache", aptCache],
    ["apt-get", aptGet],
  ] as const) {
    await writeFile(at(`bin/${name}`), `#!/bin/sh\nSTATE=${directory.path}\n${script}\n`, { mode: 0o755 });
  }
  process.env.PATH = `${at("bin")}:${PATH}`;
});
afterEach(async () => {
  process.env.PATH = PATH;
  await directory[Symbol.asyncDispose]();
});

const at = (name: string) => path.join(directory.path, name);
const calls = async () => (await readFile(at("calls"), "utf8")).trim().split("\n");

it("the index is fetched when it is missing, also when somebody else fetches it at the time", async () => {
  await writeFile(at("locked"), "");
  expect(await candidate("some", {})).toEqual({ name: "some", version: "2", depends: ["one", "two"] });
  expect(await calls()).toEqual(["-q update", "-q update"]);
});

it("an index that cannot be fetched for another reason is tried once", async () => {
  await writeFile(at("offline"), "");
  await expect(candidate("some", {})).rejects.toMatchObject({ operation: "fetch Debian's package index" });
  expect(await calls()).toEqual(["-q update"]);
});

it("a package that is no longer there is fetched in the version that took its place", async () => {
  await writeFile(at("index"), "1");
  await using unpacked = await unpackPackage({ name: "some", version: "1" }, directory.path, {});
  expect(await readFile(path.join(unpacked.root, "etc/file"), "utf8")).toBe("here\n");
  expect((await calls()).map((call) => call.replace(/.* /, ""))).toEqual(["some=1", "update", "some=2"]);
});
