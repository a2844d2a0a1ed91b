import { SporeletError } from "@sporelet/errors";
import { type SnapshotConfig, snapshotFiles } from "./config.ts";

/** Larger than any machine; a size above it is an attack or a mistake, and is refused before it is believed. */
const mostBytes = 2 ** 44;

type Test = (value: unknown) => boolean;

const text: Test = (value) => typeof value === "string" && !value.includes("\0");
/** Values that become part of a VMM's command line: nothing that would begin another option. */
const word: Test = (value) => typeof value === "string" && /^[\w.+:-]{0,64}$/.test(value);
const matching =
  (pattern: RegExp): Test =>
  (value) =>
    typeof value === "string" && pattern.test(value);
/** Words of a VMM about itself: "7.2.22 (Debian 1:7.2+dfsg-7) machine 2", "max,la57=off". */
const label = matching(/^[\x20-\x7e]{0,256}$/);
const whole =
  (least: number, most: number): Test =>
  (value) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
const duration: Test = (value) => typeof value === "number" && value >= 0 && Number.isFinite(value);
const oneOf =
  (...values: unknown[]): Test =>
  (value) =>
    values.includes(value);
const listOf =
  (test: Test): Test =>
  (value) =>
    Array.isArray(value) && value.length <= 65_536 && value.every(test);
const object = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const maybe =
  (test: Test): Test =>
  (value) =>
    value === undefined || test(value);
const digest = matching(/^sha256:[0-9a-f]{64}$/);
const port = whole(0, 65_535);

/** What each field must be. What is not here is kept and not looked at: later versions may add to a config. */
const rules: Record<string, Test> = {
  created: (value) => typeof value === "string" && !Number.isNaN(Date.parse(value)),
  layer: whole(0, 1_000_000),
  parent: maybe(digest),
  source: text,
  "vmm.driver": word,
  "vmm.version": label,
  "vmm.accelerator": word,
  "vmm.architecture": maybe(word),
  "vmm.machineType": maybe(word),
  "vmm.cpuModel": maybe(label),
  "vmm.cpuVendor": maybe(label),
  "vmm.tscKhz": maybe(whole(0, mostBytes)),
  "vmm.cpuFeatures": maybe(listOf(word)),
  "shape.cpus": whole(1, 4096),
  "shape.memoryBytes": whole(1, mostBytes),
  "shape.accelerator": oneOf("kvm", "tcg"),
  "shape.disks": whole(0, 64),
  "shape.network": oneOf("tap", "user", "none"),
  "shape.mac": matching(/^(|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5})$/),
  "kernel.release": text,
  "kernel.arguments": listOf(text),
  "agent.protocol": whole(0, 1_000_000),
  "agent.version": text,
  ports: listOf((value) => object(value) && port(value.guest) && maybe(port)(value.host)),
  services: listOf(text),
  compose: maybe((value) => object(value) && text(value.project) && text(value.file)),
  hookTimeoutMs: maybe(duration),
  pauseMs: maybe(duration),
};

const record: Test = (value) =>
  object(value) &&
  digest(value.digest) &&
  whole(0, mostBytes)(value.sizeBytes) &&
  whole(0, mostBytes)(value.usedBytes) &&
  maybe(whole(0, mostBytes))(value.ownBytes);

/**
 * Reads a config: one of the store's own, or one that came from elsewhere. Everything that is used of it is
 * looked at, so that what it says can be relied on to have its type, and to be no larger than can be.
 *
 * @throws SporeletError `corrupt` when it is not one, `incompatible` when another version wrote it.
 */
export function parseConfig(json: string, subject: string): SnapshotConfig {
  const context = { operation: "read the snapshot's config", subject };
  const corrupt = (reason: string, cause?: unknown) =>
    new SporeletError({ ...context, code: "corrupt", reason, cause });
  let config: unknown;
  try {
    config = JSON.parse(json);
  } catch (cause) {
    throw corrupt("it is not JSON", cause);
  }
  if (!object(config) || typeof config.formatVersion !== "number") {
    throw corrupt("it has no format version");
  }
  if (config.formatVersion !== 2) {
    const older = config.formatVersion < 2;
    throw new SporeletError({
      ...context,
      code: "incompatible",
      reason: older
        ? `it has format version ${config.formatVersion}, of an earlier Sporelet`
        : `its format version ${config.formatVersion} is not known here`,
      hint: older ? "build it again; `sporectl snapshot rm` removes the old one" : "upgrade Sporelet",
    });
  }
  for (const [path, test] of Object.entries(rules)) {
    const value = path
      .split(".")
      .reduce<unknown>((at, name) => (object(at) && Object.hasOwn(at, name) ? at[name] : undefined), config);
    if (!test(value)) throw corrupt(value === undefined ? `it lacks ${path}` : `its ${path} is malformed`);
  }
  const { files } = config;
  if (!object(files)) throw corrupt("it lacks files");
  for (const name of snapshotFiles) {
    const needed = name === "memory" || name === "vmstate";
    if (files[name] === undefined ? needed : !record(files[name])) {
      throw corrupt(files[name] === undefined ? `it lacks files.${name}` : `its files.${name} is malformed`);
    }
  }
  return config as unknown as SnapshotConfig;
}
