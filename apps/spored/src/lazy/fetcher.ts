import { SporeletError } from "@sporelet/errors";
import { pauseAfter } from "./attempts.ts";
import type { FetchRange, Piece, Planner } from "./planner.ts";

/** Where blobs come from. */
export interface BlobSource {
  /** A part of a blob. It may end early, which counts as an interruption. */
  read(
    blob: number,
    range: { offset: number; bytes: number; signal: AbortSignal },
  ): AsyncIterable<Uint8Array>;
}

export interface FetcherOptions {
  pieces: readonly Piece[];
  planner: Planner;
  source: BlobSource;
  /**
   * Takes a piece in: verifies and keeps it. The bytes are its own until its promise settles.
   * @throws SporeletError `corrupt` when it is not what it should be; anything else ends the fetch.
   */
  accept(piece: number, bytes: Buffer): Promise<void>;
  /** Called when something changed: bytes came, or a problem came up or went. */
  onChange?(): void;
  /** Ranges at the same time; one more for those that somebody waits for. Default: 3. */
  connections?: number;
  /** How long somebody waits while nothing comes, before it fails. Default: 60,000. */
  patienceMs?: number;
  /** The pause after the first failure; it doubles up to eight times that. Default: 250. */
  retryMs?: number;
}

/** Fetches what a planner plans. */
export interface Fetcher {
  /**
   * Waits until pieces are there; they are fetched before all others.
   * @throws SporeletError when they cannot be had: after a defect at once, after interruptions when nothing
   *   has come for `patienceMs`.
   */
  need(pieces: readonly number[]): Promise<void>;
  allowRest(): void;
  has(piece: number): boolean;
  /** Bytes that came over the wire. */
  readonly fetchedBytes: number;
  /** Why nothing comes at the moment, if that is so. */
  readonly problem: SporeletError | undefined;
  /** Settles when all pieces are there; rejects when that will never be. */
  readonly complete: Promise<void>;
  /** Settles when the pieces of the working set are there. */
  readonly warm: Promise<void>;
  /** Ends it; who waits is failed. */
  close(): Promise<void>;
}

const defaultConnections = 3;
const defaultPatienceMs = 60_000;
const defaultRetryMs = 250;
/** So often the same piece may come wrong: a proxy in between may have been at fault. */
const attemptsPerPiece = 3;

interface Waiter {
  pieces: Set<number>;
  since: number;
  resolve(): void;
  reject(error: SporeletError): void;
}

export function createFetcher(options: FetcherOptions): Fetcher {
  const { pieces, planner, source, accept, onChange = () => {} } = options;
  const connections = options.connections ?? defaultConnections;
  const patienceMs = options.patienceMs ?? defaultPatienceMs;
  const retryMs = options.retryMs ?? defaultRetryMs;
  const there = new Uint8Array(pieces.length);
  const wrong = new Map<number, number>();
  const waiters = new Set<Waiter>();
  const stop = new AbortController();
  const complete = Promise.withResolvers<void>();
  const warm = Promise.withResolvers<void>();
  complete.promise.catch(() => {});
  let fetchedBytes = 0;
  let failures = 0;
  let problem: SporeletError | undefined;
  let defect: SporeletError | undefined;
  let lastProgressAt = performance.now();
  let wake = Promise.withResolvers<void>();
  /** Ranges under way that somebody waits for: others hold back while there are any. */
  let urgent = 0;

  const stir = () => {
    wake.resolve();
    wake = Promise.withResolvers();
  };

  const arrived = (piece: number) => {
    there[piece] = 1;
    planner.done(piece);
    lastProgressAt = performance.now();
    failures = 0;
    problem = undefined;
    for (const waiter of waiters) {
      if (!waiter.pieces.delete(piece) || waiter.pieces.size > 0) continue;
      waiters.delete(waiter);
      waiter.resolve();
    }
    if (planner.missingFirst === 0) warm.resolve();
    if (planner.missing === 0) complete.resolve();
    onChange();
  };

  const giveUp = (error: SporeletError) => {
    defect = error;
    problem = error;
    complete.reject(error);
    for (const waiter of waiters) waiter.reject(error);
    waiters.clear();
    onChange();
  };

  /** Reads one range and takes in its pieces as they come. @param room for one piece, the caller's own */
  const fetch = async (range: FetchRange, room: Buffer) => {
    const { blob, offset, bytes } = range;
    let at = offset;
    let index = 0;
    let filled = 0;
    for await (const chunk of source.read(blob, { offset, bytes, signal: stop.signal })) {
      fetchedBytes += chunk.length;
      for (let used = 0; used < chunk.length && index < range.pieces.length; ) {
        const number = range.pieces[index] as number;
        const piece = pieces[number] as Piece;
        const left = chunk.length - used;
        const dropped = Math.min(left, Math.max(0, piece.offset - at));
        const taken = Math.min(left - dropped, piece.sizeBytes - filled);
        room.set(chunk.subarray(used + dropped, used + dropped + taken), filled);
        used += dropped + taken;
        at += dropped + taken;
        filled += taken;
        if (filled < piece.sizeBytes) continue;
        await take(number, room.subarray(0, filled));
        index += 1;
        filled = 0;
      }
      // The connection's own flow control makes the registry wait too.
      while (urgent > 0 && !isAwaited(range) && !stop.signal.aborted) await wake.promise;
    }
    if (index < range.pieces.length) throw cutShort();
  };

  const isAwaited = (range: FetchRange) =>
    range.urgent || [...waiters].some((waiter) => range.pieces.some((piece) => waiter.pieces.has(piece)));

  const take = async (piece: number, bytes: Buffer) => {
    try {
      await accept(piece, bytes);
    } catch (error) {
      const ours = SporeletError.from(error, { operation: "keep what was fetched" });
      const attempts = (wrong.get(piece) ?? 0) + 1;
      wrong.set(piece, attempts);
      if (ours.code !== "corrupt" || attempts >= attemptsPerPiece) giveUp(ours);
      throw ours;
    }
    arrived(piece);
  };

  const connection = async (next: () => FetchRange | undefined) => {
    // Used again for every piece: what lives on until it is collected would add up.
    const room = Buffer.allocUnsafeSlow(pieces.reduce((most, { sizeBytes }) => Math.max(most, sizeBytes), 0));
    while (!stop.signal.aborted && defect === undefined && planner.missing > 0) {
      const range = next();
      if (range === undefined) {
        await wake.promise;
        continue;
      }
      if (range.urgent) urgent += 1;
      try {
        await fetch(range, room);
      } catch (error) {
        if (!stop.signal.aborted) interrupted(error);
      } finally {
        for (const piece of range.pieces) if (!there[piece]) planner.failed(piece);
        for (const { pieces: wanted } of waiters) for (const piece of wanted) planner.demand(piece);
        if (range.urgent) urgent -= 1;
        stir();
      }
      if (failures > 0) await pauseAfter(failures, retryMs, stop.signal);
    }
  };

  const interrupted = (error: unknown) => {
    failures += 1;
    const ours = SporeletError.from(error, { operation: "fetch pages" });
    problem = ours;
    if (isFinal(ours)) giveUp(ours);
    onChange();
  };

  /** Only while somebody waits. */
  const watch = setInterval(
    () => {
      const now = performance.now();
      for (const waiter of waiters) {
        if (now - Math.max(waiter.since, lastProgressAt) < patienceMs) continue;
        waiters.delete(waiter);
        waiter.reject(problem ?? tookTooLong(patienceMs));
      }
    },
    Math.min(500, patienceMs / 4),
  );
  watch.unref();

  if (planner.missing === 0) complete.resolve();
  if (planner.missingFirst === 0) warm.resolve();
  const lanes = Array.from({ length: connections }, () => connection(() => planner.next()));
  lanes.push(connection(() => planner.nextUrgent()));

  return {
    async need(wanted) {
      const absent = wanted.filter((piece) => !there[piece]);
      if (absent.length === 0) return;
      if (defect !== undefined) throw defect;
      stop.signal.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        waiters.add({ pieces: new Set(absent), since: performance.now(), resolve, reject });
        for (const piece of absent) planner.demand(piece);
        stir();
      });
    },
    allowRest() {
      planner.allowRest();
      stir();
    },
    has: (piece) => there[piece] === 1,
    get fetchedBytes() {
      return fetchedBytes;
    },
    get problem() {
      return problem;
    },
    complete: complete.promise,
    warm: warm.promise,
    async close() {
      clearInterval(watch);
      const ended = new SporeletError({
        code: "cancelled",
        operation: "fetch pages",
        reason: "it was ended",
      });
      stop.abort(ended);
      for (const waiter of waiters) waiter.reject(ended);
      waiters.clear();
      complete.reject(ended);
      stir();
      await Promise.all(lanes);
    },
  };
}

/** What waiting does not mend. */
function isFinal({ code }: SporeletError): boolean {
  return code === "permission_denied" || code === "not_found" || code === "invalid_argument";
}

const retryHint = "see whether the registry answers, and run it again";

function cutShort(): SporeletError {
  return new SporeletError({
    code: "unavailable",
    operation: "fetch pages",
    reason: "the registry ended its answer too early",
    hint: retryHint,
  });
}

function tookTooLong(patienceMs: number): SporeletError {
  return new SporeletError({
    code: "deadline_exceeded",
    operation: "fetch pages",
    reason: `nothing came from the registry for ${patienceMs / 1000} s`,
    hint: `${retryHint}; SPORELET_PATIENCE_MS, in spored's environment, has machines wait longer`,
  });
}
