import type { Duplex } from "node:stream";

export interface GuestResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface GuestExecOptions {
  signal: AbortSignal;
  stdin?: Uint8Array;
  onLine?: (source: "stdout" | "stderr", line: string) => void;
}

/** What the preheater needs of a guest. `agentGuest` makes one from an agent's client. */
export interface Guest {
  /** Runs a program to its end. Aborting kills it and rejects. */
  exec(argv: string[], options: GuestExecOptions): Promise<GuestResult>;
  /** One TCP connection inside the guest. */
  connect(port: number, host: string, signal: AbortSignal): Duplex;
}
