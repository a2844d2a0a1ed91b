import { exitCodeOf, SporeletError } from "@sporelet/errors";
import type { Context } from "../cli/context.ts";
import { errorLines } from "../output/report-error.ts";

const atOnce = 8;

/**
 * Does the same to several subjects, a few at a time, and goes on when one fails. Results and errors are
 * reported in the order of the subjects.
 * @returns the exit code of the first failure, else 0
 */
export async function forEachSubject<T>(
  context: Context,
  subjects: readonly string[],
  work: (subject: string) => Promise<T>,
  report: (result: T, subject: string) => void,
): Promise<number> {
  const started: Promise<T>[] = [];
  const begin = () => {
    const subject = subjects[started.length];
    if (subject === undefined || context.signal.aborted) return;
    const working = work(subject);
    started.push(working);
    working.then(begin, begin);
  };
  for (let i = 0; i < atOnce; i++) begin();
  let code = 0;
  for (const [i, subject] of subjects.entries()) {
    context.signal.throwIfAborted();
    try {
      report(await (started[i] as Promise<T>), subject);
    } catch (error) {
      if (context.signal.aborted) throw error;
      const ours = SporeletError.from(error, { operation: "finish", subject });
      context.io.stderr.write(
        `${errorLines(ours, context.errorStyle, context.io.stderr.columns).join("\n")}\n`,
      );
      code ||= exitCodeOf(ours);
    }
  }
  return code;
}

/** Asks for several subjects and gives all answers, or the first error after all others were reported. */
export async function allSubjects<T>(
  context: Context,
  subjects: readonly string[],
  ask: (subject: string) => Promise<T>,
): Promise<T[]> {
  const settled = await Promise.allSettled(subjects.map(ask));
  const failures = settled
    .filter((result) => result.status === "rejected")
    .map((result) => result.reason as unknown);
  for (const failure of failures.slice(1)) {
    const ours = SporeletError.from(failure, { operation: "finish" });
    context.io.stderr.write(
      `${errorLines(ours, context.errorStyle, context.io.stderr.columns).join("\n")}\n`,
    );
  }
  if (failures.length > 0) throw failures[0];
  return settled.map((result) => (result as PromiseFulfilledResult<T>).value);
}

/** What `--json` prints about subjects that were named: the document of one, a list of several. */
export function oneOrList<T>(documents: readonly T[]): T | readonly T[] {
  return documents.length === 1 ? (documents[0] as T) : documents;
}
