import { SporeletError } from "@sporelet/errors";

/** What came wrong may come right: a proxy in between may have been at fault. */
const attempts = 3;

/** Does something again that failed because what came was damaged, or was cut short. */
export async function withAttempts<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await task();
    } catch (error) {
      const { code } = SporeletError.from(error, { operation: "fetch" });
      const passing = code === "corrupt" || code === "unavailable" || code === "deadline_exceeded";
      if (!passing || attempt === attempts || signal.aborted) throw error;
    }
  }
}
