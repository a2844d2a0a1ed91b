import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { MachineLimits } from "@sporelet/host";

/** A VMM alone takes more. */
const leastMemoryBytes = 32 * 1024 * 1024;
/** One sector and a page's worth of patience: below this a guest takes its disk for broken. */
const leastBytesPerSecond = 64 * 1024;

/**
 * The limits of a request; undefined when there are none.
 * @throws SporeletError `invalid_argument`
 */
export function checkLimits(
  limits: api.Limits | undefined,
  operation: string,
  subject: string,
): MachineLimits | undefined {
  if (limits === undefined) return undefined;
  const { cpus } = limits;
  const [memoryBytes, ioBytesPerSecond] = [limits.memoryBytes, limits.ioBytesPerSecond].map(Number);
  const invalid = (reason: string) =>
    new SporeletError({ code: "invalid_argument", operation, subject, reason });
  if (cpus !== 0 && !(cpus >= 0.01 && cpus <= 10_000)) {
    throw invalid(`${cpus} CPUs cannot be a limit: at least 0.01, at most 10000`);
  }
  if (memoryBytes && memoryBytes < leastMemoryBytes) {
    throw invalid(`${memoryBytes} bytes of memory are too little: the VMM alone takes 32 MiB`);
  }
  if (ioBytesPerSecond && ioBytesPerSecond < leastBytesPerSecond) {
    throw invalid(`${ioBytesPerSecond} bytes per second are too few for a disk: at least 64 KiB`);
  }
  const asked = {
    ...(cpus && { cpus }),
    ...(memoryBytes && { memoryBytes }),
    ...(ioBytesPerSecond && { ioBytesPerSecond }),
  };
  return Object.keys(asked).length === 0 ? undefined : asked;
}

export function limitsMessage({
  cpus = 0,
  memoryBytes = 0,
  ioBytesPerSecond = 0,
}: MachineLimits): api.Limits {
  return create(api.LimitsSchema, {
    cpus,
    memoryBytes: BigInt(memoryBytes),
    ioBytesPerSecond: BigInt(ioBytesPerSecond),
  });
}

/**
 * The trust domain of a request; undefined for none.
 * @throws SporeletError `invalid_argument` for what is no name
 */
export function checkDomain(ksm: string, operation: string, subject: string): string | undefined {
  if (ksm === "") return undefined;
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(ksm)) return ksm;
  const reason = `${JSON.stringify(ksm)} is no name of a trust domain: letters, digits, ".", "_" and "-", at most 63`;
  throw new SporeletError({ code: "invalid_argument", operation, subject, reason });
}
