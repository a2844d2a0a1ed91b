import { SporeletError } from "@sporelet/errors";

const maximumCount = 1000;

/** How many machines a call asks for; 0 stands for one. @throws SporeletError `invalid_argument` */
export function requireCount(requested: number, operation: string, subject: string): number {
  if (requested <= maximumCount) return requested || 1;
  throw new SporeletError({
    code: "invalid_argument",
    operation,
    subject,
    reason: `at most ${maximumCount} clones can be asked for at once`,
  });
}
