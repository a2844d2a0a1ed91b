import type { node as api } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import type { StoredSnapshot } from "@sporelet/store";

/** How a machine falls asleep and wakes by itself. */
export interface Dormancy {
  /** Connections to its published ports wake it. */
  wakeOnConnect: boolean;
  /** It is suspended when nothing happened for so long; 0: never. */
  idleSuspendMs: number;
}

/** Less is no idleness but the pause between two requests. */
const leastIdleMs = 1000;

/** @throws SporeletError `invalid_argument` for what cannot be meant. */
export function checkDormancy({
  wakeOnConnect,
  idleSuspendMs,
  ports,
  snapshot,
}: Pick<api.RunRequest, "wakeOnConnect" | "idleSuspendMs" | "ports" | "snapshot">): Dormancy {
  const wrong = (reason: string, hint: string) =>
    new SporeletError({ code: "invalid_argument", operation: "run", subject: snapshot, reason, hint });
  if (wakeOnConnect && ports.length === 0) {
    throw wrong("no port is published that a connection could wake it by", "publish one with -p");
  }
  if (idleSuspendMs > 0 && idleSuspendMs < leastIdleMs) {
    throw wrong(`${idleSuspendMs} ms are too short to call a machine idle`, "the shortest is 1s");
  }
  return { wakeOnConnect, idleSuspendMs };
}

/** @throws SporeletError `unsupported` when connections to the machines of a snapshot are not seen here. */
export function requireSeen(
  { wakeOnConnect, idleSuspendMs }: Dormancy,
  { config }: StoredSnapshot,
  subject: string,
): void {
  if (config.shape.network !== "user" || (!wakeOnConnect && idleSuspendMs === 0)) return;
  throw new SporeletError({
    code: "unsupported",
    operation: "run",
    subject,
    reason: "its network is its VMM's own, so that spored sees no connections to it",
    hint: "run spored as root and build the snapshot there, or suspend and wake it by hand",
  });
}
