import { StringDecoder } from "node:string_decoder";

/** The end of what a stream carried, at most `limitBytes` (and one chunk) of it. */
export class Output {
  #chunks: Buffer[] = [];
  #bytes = 0;
  readonly #limitBytes: number;
  /** Whether the beginning was dropped. */
  truncated = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes - (this.#chunks[0]?.length ?? 0) >= this.#limitBytes) {
      this.#bytes -= this.#chunks.shift()?.length ?? 0;
      this.truncated = true;
    }
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString("utf8");
  }
}

/** Cuts a byte stream into lines at line feeds and carriage returns; an unfinished last line counts. */
export function lineSplitter(onLine: (line: string) => void): { add(chunk: Buffer): void; end(): void } {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  const cut = () => {
    // A carriage return at the very end may be the first half of CR LF.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  };
  return {
    add(chunk) {
      rest += decoder.write(chunk);
      cut();
    },
    end() {
      rest = (rest + decoder.end()).replace(/\r$/, "");
      if (rest !== "") onLine(rest);
      rest = "";
    },
  };
}
