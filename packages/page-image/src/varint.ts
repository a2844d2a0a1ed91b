/**
 * Unsigned integers in 7-bit groups, least significant first, the high bit set on all but the last (LEB128);
 * up to 2^53 - 1, and in the shortest form only, so that a number has one encoding.
 */
export class VarintWriter {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #length = 0;

  number(value: number): void {
    this.#reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.#buffer[this.#length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#buffer[this.#length++] = rest;
  }

  /** Zigzag: 0, -1, 1, -2, … become 0, 1, 2, 3, … */
  signed(value: number): void {
    this.number(value < 0 ? -2 * value - 1 : 2 * value);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** Reads what a VarintWriter wrote. `fail` makes the error to throw, of what is wrong and at which byte. */
export class VarintReader {
  readonly #buffer: Buffer;
  readonly #fail: (reason: string) => Error;
  #at = 0;

  constructor(buffer: Buffer, fail: (reason: string) => Error) {
    this.#buffer = buffer;
    this.#fail = fail;
  }

  get remaining(): number {
    return this.#buffer.length - this.#at;
  }

  /** @param what names the number in errors. @param max the largest value that makes sense. */
  number(what: string, max: number): number {
    let value = 0;
    let scale = 1;
    const start = this.#at;
    for (;;) {
      const byte = this.#buffer[this.#at];
      if (byte === undefined) throw this.#fail(`it ends within ${what}, at byte ${start}`);
      this.#at++;
      value += (byte & 0x7f) * scale;
      if (value > max) throw this.#fail(`${what} is absurd: more than ${max}, at byte ${start}`);
      if (byte < 0x80) {
        if (byte === 0 && scale > 1)
          throw this.#fail(`${what} is not in its shortest form, at byte ${start}`);
        return value;
      }
      scale *= 0x80;
      if (scale > 2 ** 49) throw this.#fail(`${what} is too long, at byte ${start}`);
    }
  }

  signed(what: string, max: number): number {
    const value = this.number(what, 2 * max + 1);
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  bytes(what: string, length: number): Buffer {
    if (length > this.remaining) throw this.#fail(`it ends within ${what}, at byte ${this.#at}`);
    this.#at += length;
    return this.#buffer.subarray(this.#at - length, this.#at);
  }
}
