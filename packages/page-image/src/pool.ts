/** Things that are used again: as many as are in use at the same time are made. */
export class Pool<T extends object> {
  readonly #make: () => T;
  readonly #free: T[] = [];

  constructor(make: () => T) {
    this.#make = make;
  }

  take(): T {
    return this.#free.pop() ?? this.#make();
  }

  give(thing: T): void {
    this.#free.push(thing);
  }
}
