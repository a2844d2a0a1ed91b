import type { NodeClient } from "@sporelet/api";

export type ExecRequestInit = Parameters<NodeClient["exec"]>[0] extends AsyncIterable<infer T> ? T : never;

/** Largest piece of standard input in one message, bytes. */
const pieceBytes = 64 << 10;

/** The requests of one Exec call: its start, then control messages as they arise, and standard input. */
export interface ExecRequests extends AsyncIterable<ExecRequestInit> {
  /** Sends a signal or a window size, ahead of standard input that waits. */
  send(control: ExecRequestInit): void;
  /** Ends the requests; standard input is not read any further. */
  end(): void;
}

/**
 * @param stdin read only as fast as the other side takes it; its end closes the program's standard input.
 *   Without it the program's standard input is empty.
 */
export function createExecRequests(
  start: ExecRequestInit,
  stdin: AsyncIterable<Uint8Array> | undefined,
): ExecRequests {
  const controls: ExecRequestInit[] = [];
  let ended = false;
  let wake = () => {};
  const closeStdin: ExecRequestInit = { request: { case: "closeStdin", value: {} } };

  async function* generate(): AsyncGenerator<ExecRequestInit> {
    yield start;
    const input = stdin?.[Symbol.asyncIterator]();
    if (input === undefined) yield closeStdin;
    let pending: Promise<{ chunk: IteratorResult<Uint8Array> }> | undefined;
    let inputOver = input === undefined;
    while (!ended) {
      const control = controls.shift();
      if (control !== undefined) {
        yield control;
        continue;
      }
      const woken = new Promise<undefined>((resolve) => {
        wake = () => resolve(undefined);
      });
      if (!inputOver) pending ??= input?.next().then((chunk) => ({ chunk }));
      const arrived = await (inputOver || pending === undefined ? woken : Promise.race([pending, woken]));
      if (arrived === undefined) continue;
      pending = undefined;
      if (arrived.chunk.done === true) {
        inputOver = true;
        yield closeStdin;
        continue;
      }
      for (const piece of pieces(arrived.chunk.value)) yield { request: { case: "stdin", value: piece } };
    }
  }

  return {
    [Symbol.asyncIterator]: generate,
    send(control) {
      controls.push(control);
      wake();
    },
    end() {
      ended = true;
      wake();
    },
  };
}

function* pieces(data: Uint8Array): Generator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < data.length; at += pieceBytes) {
    yield data.subarray(at, at + pieceBytes) as Uint8Array<ArrayBuffer>;
  }
}
