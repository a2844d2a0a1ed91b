import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createIdleness } from "./idleness.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const watched = () => {
  const idleness = createIdleness(1000);
  const watcher = { onRest: vi.fn(), onIdle: vi.fn() };
  idleness.watch(watcher);
  return { idleness, watcher };
};

it("tells once when nothing went on for the whole time", () => {
  const { watcher } = watched();
  vi.advanceTimersByTime(999);
  expect(watcher.onIdle).not.toHaveBeenCalled();
  vi.advanceTimersByTime(10_000);
  expect(watcher.onRest).toHaveBeenCalledOnce();
  expect(watcher.onIdle).toHaveBeenCalledOnce();
});

it("begins to count when the last of what goes on has ended", () => {
  const { idleness, watcher } = watched();
  const [one, other] = [idleness.begin(), idleness.begin()];
  expect(idleness.busy).toBe(true);
  vi.advanceTimersByTime(5000);
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  expect(idleness.busy).toBe(true);
  vi.advanceTimersByTime(5000);
  other[Symbol.dispose]();
  expect(idleness.busy).toBe(false);
  vi.advanceTimersByTime(999);
  idleness.begin()[Symbol.dispose]();
  vi.advanceTimersByTime(999);
  expect(watcher.onIdle).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(watcher.onIdle).toHaveBeenCalledOnce();
});

it("has no timer while nobody watches, and counts all the same", () => {
  const { idleness, watcher } = watched();
  idleness.unwatch();
  expect(vi.getTimerCount()).toBe(0);
  const going = idleness.begin();
  idleness.watch(watcher);
  expect(vi.getTimerCount()).toBe(0);
  going[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(1);
});
