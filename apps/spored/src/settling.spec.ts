import { expect, it } from "vitest";
import { createSettling } from "./settling.ts";

/** Tells whether a promise has settled yet. */
function watched(promise: Promise<void>): { done: () => boolean; promise: Promise<void> } {
  let done = false;
  const after = promise.then(() => {
    done = true;
  });
  return { done: () => done, promise: after };
}

const turns = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

it("waits for calls that are cancelled, and for none of other connections", async () => {
  const settling = createSettling();
  const cancelled = new AbortController();
  const call = settling.begin(cancelled.signal, "a");
  using _other = settling.begin(new AbortController().signal, "b");
  cancelled.abort();
  const settled = watched(settling.settled("a"));
  await turns();
  expect(settled.done()).toBe(false);
  call[Symbol.dispose]();
  await settled.promise;
});

it("waits for a cancellation that arrives behind the request, and then for its call", async () => {
  const settling = createSettling();
  const cancelled = new AbortController();
  const call = settling.begin(cancelled.signal, "a");
  const settled = watched(settling.settled("a"));
  await turns();
  expect(settled.done()).toBe(false);
  cancelled.abort();
  await turns();
  expect(settled.done()).toBe(false);
  call[Symbol.dispose]();
  await settled.promise;
});

it("does not wait for ever for a call that was not cancelled", async () => {
  const settling = createSettling();
  using _call = settling.begin(new AbortController().signal, "a");
  await settling.settled("a");
});
