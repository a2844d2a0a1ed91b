/**
 * Decides what is fetched next. Pure: it knows pieces (frames of blobs, whole files), what is wanted most, and
 * what is under way; it fetches nothing.
 *
 * Three classes, each before the next: pieces that somebody waits for, in the order of asking; the working set,
 * in its recorded order; the rest, once it is allowed to begin. Neighbours in a blob are fetched by one range.
 */

/** A stretch of a blob that can be verified and used on its own. */
export interface Piece {
  /** Number of the blob that it lies in. */
  blob: number;
  offset: number;
  sizeBytes: number;
}

/** One read of a blob. What lies between its pieces is read and dropped. */
export interface FetchRange {
  blob: number;
  offset: number;
  bytes: number;
  /** Numbers of pieces, in the order of their offsets. */
  pieces: readonly number[];
  /** Somebody waits for it. */
  urgent: boolean;
}

export interface PlannerOptions {
  /** Working set: numbers of pieces in the order in which they will be needed. */
  first?: readonly number[];
  /** The largest range, unless one piece is larger. */
  rangeBytes?: number;
  /** Unwanted bytes between two pieces that are dropped rather than made a reason for another range. */
  gapBytes?: number;
}

export interface Planner {
  /** Somebody waits for a piece. Without effect when it is under way or there. */
  demand(piece: number): void;
  /** From now on the rest may be fetched. */
  allowRest(): void;
  /** The next range to fetch, which is under way from now on; undefined: nothing to do for now. */
  next(): FetchRange | undefined;
  /** As `next`, for ranges that somebody waits for alone. */
  nextUrgent(): FetchRange | undefined;
  /** A piece is there. */
  done(piece: number): void;
  /** A piece that was under way is not any more, and did not come. */
  failed(piece: number): void;
  /** Pieces that are not there yet. */
  readonly missing: number;
  /** Pieces of the working set that are not there yet. */
  readonly missingFirst: number;
}

/** 12 Mbit: a tenth of a second on a connection of 100 Mbit/s, so that faults rarely wait behind more. */
const defaultRangeBytes = 1536 * 1024;
const defaultGapBytes = 64 * 1024;

type State = "missing" | "fetching" | "done";

export function createPlanner(pieces: readonly Piece[], options: PlannerOptions = {}): Planner {
  const { rangeBytes = defaultRangeBytes, gapBytes = defaultGapBytes } = options;
  const first = [...new Set(options.first ?? [])];
  const isFirst = new Set(first);
  const state: State[] = pieces.map(() => "missing");
  const demanded = new Set<number>();
  const { order, place } = byOffset(pieces);
  let firstAt = 0;
  let restAt = 0;
  let restAllowed = false;
  let missing = pieces.length;
  let missingFirst = first.length;

  const begin = (piece: number, joins: (neighbour: number) => boolean, urgent: boolean): FetchRange => {
    const chosen = [piece];
    const { blob, offset } = pieces[piece] as Piece;
    let end = offset + (pieces[piece] as Piece).sizeBytes;
    for (let at = (place[piece] ?? 0) + 1; at < order.length; at++) {
      const neighbour = order[at] as number;
      const { blob: other, offset: start, sizeBytes } = pieces[neighbour] as Piece;
      if (other !== blob || start - end > gapBytes || start + sizeBytes - offset > rangeBytes) break;
      if (state[neighbour] !== "missing" || !joins(neighbour)) continue;
      chosen.push(neighbour);
      end = start + sizeBytes;
    }
    for (const one of chosen) {
      state[one] = "fetching";
      demanded.delete(one);
    }
    return { blob, offset, bytes: end - offset, pieces: chosen, urgent };
  };

  const nextUrgent = () => {
    for (const piece of demanded) return begin(piece, (neighbour) => demanded.has(neighbour), true);
    return undefined;
  };

  return {
    demand(piece) {
      if (state[piece] === "missing") demanded.add(piece);
    },
    allowRest() {
      restAllowed = true;
    },
    nextUrgent,
    next() {
      const urgent = nextUrgent();
      if (urgent !== undefined) return urgent;
      for (; firstAt < first.length; firstAt++) {
        const piece = first[firstAt] as number;
        if (state[piece] === "missing") return begin(piece, (neighbour) => isFirst.has(neighbour), false);
      }
      if (!restAllowed) return undefined;
      for (; restAt < pieces.length; restAt++) {
        if (state[restAt] === "missing") return begin(restAt, () => true, false);
      }
      return undefined;
    },
    done(piece) {
      if (state[piece] === "done") return;
      state[piece] = "done";
      demanded.delete(piece);
      missing -= 1;
      if (isFirst.has(piece)) missingFirst -= 1;
    },
    failed(piece) {
      if (state[piece] !== "fetching") return;
      state[piece] = "missing";
      firstAt = 0;
      restAt = Math.min(restAt, piece);
    },
    get missing() {
      return missing;
    },
    get missingFirst() {
      return missingFirst;
    },
  };
}

/** The pieces by blob and offset, and where each of them is in that order. */
function byOffset(pieces: readonly Piece[]): { order: number[]; place: number[] } {
  const order = pieces.map((_, piece) => piece);
  order.sort((a, b) => {
    const [left, right] = [pieces[a] as Piece, pieces[b] as Piece];
    return left.blob - right.blob || left.offset - right.offset;
  });
  const place: number[] = [];
  for (const [at, piece] of order.entries()) place[piece] = at;
  return { order, place };
}
