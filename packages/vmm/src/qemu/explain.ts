/** Turns what QEMU wrote before it ended into an error that says what to do. Pure. */
import { type ErrorCode, SporeletError } from "@sporelet/errors";
import type { ProcessEnd } from "./process.ts";

const causes: { words: RegExp; code: ErrorCode; reason: string; hint?: string }[] = [
  {
    words:
      /load of migration failed|not a migration stream|error while loading|Unsupported migration stream|Unknown (savevm|ramblock)|Missing section footer|Length mismatch|Configuration section/i,
    code: "corrupt",
    reason: "QEMU cannot load the machine state",
    hint: "the snapshot is damaged, or of another QEMU or machine: build it again",
  },
  {
    words: /Could not set up host forwarding rule/,
    code: "already_exists",
    reason: "a port to be published is in use",
    hint: "see who listens with: ss -ltnp",
  },
  {
    words: /Cannot allocate memory|cannot set up guest memory/i,
    code: "resource_exhausted",
    reason: "the host has too little free memory",
  },
  { words: /No space left on device/, code: "resource_exhausted", reason: "no space left on the disk" },
  {
    words: /Could not access KVM|failed to initialize kvm/i,
    code: "unsupported",
    reason: "KVM cannot be used",
    hint: "sporectl doctor",
  },
  {
    words: /network backend 'user' is not compiled/,
    code: "unsupported",
    reason: "this QEMU has no user-mode network",
  },
  {
    words: /Permission denied|Operation not permitted/,
    code: "permission_denied",
    reason: "QEMU was denied access",
  },
];

/** The error for a QEMU process that ended when it should not have. `log` is the tail of vmm.log. */
export function explainEnd(operation: string, subject: string, end: ProcessEnd, log: string): SporeletError {
  const cause = causes.find(({ words }) => words.test(log));
  const how = describeEnd(end);
  if (cause === undefined) {
    return new SporeletError({ code: "unavailable", operation, subject, reason: `QEMU ${how}`, log });
  }
  const { code, reason, hint } = cause;
  return new SporeletError({ code, operation, subject, reason: `${reason} (it ${how})`, hint, log });
}

/** "ended with exit code 1", "was ended by SIGKILL", "ended". */
export function describeEnd({ code, signal }: ProcessEnd): string {
  if (signal !== undefined) return `was ended by ${signal}`;
  return code === undefined ? "ended" : `ended with exit code ${code}`;
}
