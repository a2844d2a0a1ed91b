import { closeSync, openSync } from "node:fs";
import { SporeletError } from "@sporelet/errors";
import { inNetworkNamespace, tcpSocket } from "../syscalls.ts";

/** A network namespace that is held open: it lives on, whatever becomes of its name. */
export interface NetnsHandle extends Disposable {
  /**
   * Runs something in it. It has to be synchronous: what it starts later runs in this process's own
   * namespace. What is created meanwhile, sockets and child processes, belongs to the namespace for good.
   */
  run<T>(action: () => T): T;
  /** A TCP socket of the namespace, not connected yet. The caller owns the descriptor. */
  tcpSocket(family: 4 | 6): number;
}

/** @throws SporeletError `not_found`. */
export function openNetns(path: string): NetnsHandle {
  const operation = "enter the network namespace";
  try {
    const target = openSync(path, "r");
    const run = <T>(action: () => T): T => {
      // Opened anew each time: a worker thread may call this, and threads can be in different namespaces.
      const home = openSync("/proc/thread-self/ns/net", "r");
      try {
        return inNetworkNamespace(target, home, action);
      } finally {
        closeSync(home);
      }
    };
    return {
      run,
      tcpSocket: (family) => run(() => tcpSocket(family)),
      [Symbol.dispose]: () => closeSync(target),
    };
  } catch (error) {
    throw SporeletError.from(error, { operation, subject: path });
  }
}

/** Runs something synchronous, such as spawn, in a network namespace (see `NetnsHandle.run`). */
export function inNetns<T>(path: string, action: () => T): T {
  using handle = openNetns(path);
  return handle.run(action);
}
