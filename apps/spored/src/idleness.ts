/** Counts what goes on with a machine, and tells when there has been nothing for a while. */
export interface Idleness {
  /** Something goes on until this is disposed of. */
  begin(): Disposable;
  readonly busy: boolean;
  /** From now on tells when nothing has gone on for the whole time: once. Ends an earlier watch. */
  watch(watcher: IdleWatcher): void;
  unwatch(): void;
}

interface IdleWatcher {
  /** Nothing goes on from now on. */
  onRest(): void;
  /** Nothing has gone on since. */
  onIdle(): void;
}

/** One timer, and only while it is watched and nothing goes on. @param idleMs how long that is to be */
export function createIdleness(idleMs: number): Idleness {
  let running = 0;
  let watcher: IdleWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;

  const settle = () => {
    clearTimeout(timer);
    if (running > 0 || watcher === undefined) return;
    const { onRest, onIdle } = watcher;
    onRest();
    timer = setTimeout(() => {
      watcher = undefined;
      onIdle();
    }, idleMs);
  };
  return {
    begin() {
      running += 1;
      settle();
      let ended = false;
      return {
        [Symbol.dispose]() {
          if (ended) return;
          ended = true;
          running -= 1;
          settle();
        },
      };
    },
    get busy() {
      return running > 0;
    },
    watch(next) {
      watcher = next;
      settle();
    },
    unwatch() {
      watcher = undefined;
      settle();
    },
  };
}
