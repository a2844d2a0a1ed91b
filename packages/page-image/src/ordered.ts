/**
 * Maps what a source gives, several at a time, and hands the results on in the source's order. At most `depth`
 * are in work or waiting. When it ends early, by a failure or because nobody asks any more, what was begun has
 * ended before it returns.
 */
export async function* mapInOrder<T, R>(
  source: Iterable<T> | AsyncIterable<T>,
  depth: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const begun: Promise<R>[] = [];
  try {
    for await (const item of source) {
      const result = work(item);
      result.catch(() => {}); // It is met when it is awaited; until then it is not unhandled.
      begun.push(result);
      if (begun.length >= depth) yield await (begun.shift() as Promise<R>);
    }
    while (begun.length > 0) yield await (begun.shift() as Promise<R>);
  } finally {
    await Promise.allSettled(begun);
  }
}
