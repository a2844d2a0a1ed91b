import { expect, it } from "vitest";
import { createSettling } from "./settling.ts";

it("waits for calls that are cancelled, be it in the same moment, and for no others", async () => {
  const settling = createSettling();
  const cancelled = new AbortController();
  const call = settling.begin(cancelled.signal);
  using _other = settling.begin(new AbortController().signal);
  let settled = false;
  const waiting = settling.settled().then(() => {
    settled = true;
  });
  cancelled.abort();
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(settled).toBe(false);
  call[Symbol.dispose]();
  await waiting;
  await settling.settled();
});
