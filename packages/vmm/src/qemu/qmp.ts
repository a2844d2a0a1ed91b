/**
 * Client of the QEMU Machine Protocol (qemu: docs/interop/qmp-spec): one JSON object per line in both
 * directions. The server greets, the client negotiates capabilities; then replies carry the `id` of their
 * command, and events come in between.
 */
import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { SporeletError } from "@sporelet/errors";
import { within } from "../wait.ts";

interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
  /** When it happened, milliseconds since 1970 on the host's clock; QEMU may tell of it much later. */
  at: number;
}

export interface QmpOptions {
  /** The machine, for errors. */
  subject: string;
  /** What pending calls fail with when the connection ends: knows the process's end and its log. */
  explainEnd: () => Promise<SporeletError>;
  /** Limit for greeting and negotiation, milliseconds. */
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface CallOptions {
  /** Default: 10,000 ms. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Qmp {
  /** major, minor, micro. */
  readonly version: readonly [number, number, number];
  /**
   * Sends a command and resolves with what it returns. Commands are answered in order; several may be sent
   * without waiting.
   * @throws SporeletError `failed_precondition` with QEMU's own words when it refuses; what `explainEnd`
   *   gives when the connection ends.
   */
  call<T = unknown>(command: string, arguments_?: Record<string, unknown>, options?: CallOptions): Promise<T>;
  /** The next event that `accept` takes. Listening begins before this returns. */
  event(
    name: string,
    options: CallOptions & { accept?: (data: QmpEvent["data"], at: number) => boolean },
  ): Promise<QmpEvent>;
  /** Calls `listener` for every event; returns how to stop that. */
  listen(listener: (event: QmpEvent) => void): () => void;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<void>;
  close(): void;
}

interface Pending {
  command: string;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

const defaultTimeoutMs = 10_000;

/** Reads the greeting, negotiates, and returns a client that owns `stream`. */
export async function openQmp(stream: Duplex, options: QmpOptions): Promise<Qmp> {
  const { subject, explainEnd } = options;
  const pending = new Map<number, Pending>();
  const listeners = new Set<(event: QmpEvent) => void>();
  const ends = new Set<(error: SporeletError) => void>();
  const greeted = Promise.withResolvers<Qmp["version"]>();
  const closed = Promise.withResolvers<void>();
  let ended: SporeletError | undefined;
  let isClosed = false;
  let nextId = 1;
  let rest = "";

  const receive = (line: string) => {
    const message = JSON.parse(line) as Message;
    if (message.QMP !== undefined) {
      const { major, minor, micro } = message.QMP.version.qemu;
      greeted.resolve([major, minor, micro]);
    } else if (message.event !== undefined) {
      const { seconds = 0, microseconds = 0 } = message.timestamp ?? {};
      const at = seconds * 1000 + microseconds / 1000;
      const event = { event: message.event, data: message.data ?? {}, at };
      for (const listener of [...listeners]) listener(event);
    } else if (message.id !== undefined) {
      const call = pending.get(message.id);
      pending.delete(message.id);
      if (message.error === undefined) call?.resolve(message.return);
      else call?.reject(refused(subject, call.command, message.error.desc));
    }
  };

  const decoder = new StringDecoder("utf8");
  stream.on("data", (bytes: Buffer) => {
    const lines = (rest + decoder.write(bytes)).split("\n");
    rest = lines.pop() ?? "";
    try {
      for (const line of lines) if (line.trim() !== "") receive(line);
    } catch (error) {
      const reason = "QEMU's monitor sent something that is not QMP";
      ended ??= new SporeletError({ code: "internal", operation: "talk to", subject, reason, cause: error });
      stream.destroy();
    }
  });
  // An error is always followed by close, and says nothing that the process's end does not say better.
  stream.on("error", () => {});
  stream.on("close", async () => {
    isClosed = true;
    closed.resolve();
    const error =
      ended ??
      (await explainEnd().catch((cause) => SporeletError.from(cause, { operation: "talk to", subject })));
    ended = error;
    greeted.reject(error);
    for (const { reject } of pending.values()) reject(error);
    for (const end of [...ends]) end(error);
    pending.clear();
    ends.clear();
  });
  greeted.promise.catch(() => {});

  const qmp: Qmp = {
    version: [0, 0, 0],
    closed: closed.promise,
    call<T>(command: string, arguments_?: Record<string, unknown>, call: CallOptions = {}): Promise<T> {
      const reply = Promise.withResolvers<unknown>();
      const id = nextId++;
      if (ended !== undefined) reply.reject(ended);
      else {
        pending.set(id, { command, resolve: reply.resolve, reject: reply.reject });
        if (!isClosed) stream.write(`${JSON.stringify({ execute: command, arguments: arguments_, id })}\n`);
      }
      return within(reply.promise as Promise<T>, {
        operation: `have QEMU do ${command} on`,
        subject,
        timeoutMs: call.timeoutMs ?? defaultTimeoutMs,
        signal: call.signal,
      });
    },
    event(name, { accept, timeoutMs = defaultTimeoutMs, signal }) {
      const seen = Promise.withResolvers<QmpEvent>();
      const listener = (event: QmpEvent) => {
        if (event.event === name && (accept?.(event.data, event.at) ?? true)) seen.resolve(event);
      };
      listeners.add(listener);
      if (ended === undefined) ends.add(seen.reject);
      else seen.reject(ended);
      return within(seen.promise, { operation: `see ${name} of`, subject, timeoutMs, signal }).finally(() => {
        listeners.delete(listener);
        ends.delete(seen.reject);
      });
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => stream.destroy(),
  };

  const { timeoutMs, signal } = options;
  try {
    // Sent before the greeting has come: QEMU reads it when it gets there, which saves a round trip.
    const negotiated = qmp.call("qmp_capabilities", undefined, { timeoutMs, signal });
    const greeting = within(greeted.promise, {
      operation: "reach the monitor of",
      subject,
      timeoutMs,
      signal,
    });
    const [version] = await Promise.all([greeting, negotiated]);
    return Object.assign(qmp, { version });
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

interface Message {
  QMP?: { version: { qemu: { major: number; minor: number; micro: number } } };
  event?: string;
  data?: Record<string, unknown>;
  timestamp?: { seconds: number; microseconds: number };
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
}

function refused(subject: string, command: string, description: string): SporeletError {
  return new SporeletError({
    code: "failed_precondition",
    operation: `have QEMU do ${command} on`,
    subject,
    reason: `QEMU refused: ${description}`,
  });
}
