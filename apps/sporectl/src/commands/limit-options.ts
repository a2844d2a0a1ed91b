import { parseRate, parseSize } from "../cli/amounts.ts";
import { value } from "../cli/options.ts";
import { numberBetween, parseDomain } from "../cli/parse.ts";

/** What a clone may take of the host, and what it shares there. */
export const limitOptions = {
  cpuLimit: value(
    "--cpu-limit <cpus>",
    "most CPU time that each clone gets: 0.5 is half of one CPU",
    numberBetween(0.01, 10_000, "a number of CPUs"),
    0,
  ),
  memoryLimit: value(
    "--memory-limit <size>",
    "most memory that each clone's VMM may take, its guest's included; one that takes more is ended",
    parseSize,
    0,
  ),
  ioLimit: value(
    "--io-limit <rate>",
    "most that each clone reads from its disk and writes to it, per second: 20MiB",
    parseRate,
    0,
  ),
  ksm: value(
    "--ksm <domain>",
    "merge equal memory with other clones of this trust domain (KSM); one domain at a time has a host",
    parseDomain,
    "",
  ),
};

interface LimitValues {
  cpuLimit: number;
  memoryLimit: number;
  ioLimit: number;
  ksm: string;
}

/** The part of a request that these options are for. */
export function limitRequest({ cpuLimit, memoryLimit, ioLimit, ksm }: LimitValues) {
  const limits = {
    cpus: cpuLimit,
    memoryBytes: BigInt(memoryLimit),
    ioBytesPerSecond: BigInt(ioLimit),
  };
  return { ksm, ...(cpuLimit + memoryLimit + ioLimit > 0 && { limits }) };
}
