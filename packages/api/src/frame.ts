import type { Duplex } from "node:stream";
import { SporeletError } from "@sporelet/errors";

/** Bytes of the length that begins a frame, big-endian (proto/sporelet/agent/v1/agent.proto). */
const headBytes = 4;

/** The most that one frame carries; a larger length means that the peer does not speak this protocol. */
const maxFrameBytes = 1 << 20;

/** Puts the length before a message, as first contact has it. */
export function encodeFrame(body: Uint8Array): Uint8Array {
  if (body.length > maxFrameBytes) throw malformed(`its ${body.length} bytes are more than ${maxFrameBytes}`);
  const frame = new Uint8Array(headBytes + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, headBytes);
  return frame;
}

/**
 * Takes one frame from a channel and nothing beyond it, so that what follows can be read by somebody else.
 * Rejects when the channel ends or fails first, and with the signal's reason when that aborts.
 */
export async function readFrame(channel: Duplex, signal?: AbortSignal): Promise<Uint8Array> {
  const head = await readExactly(channel, headBytes, signal);
  const length = new DataView(head.buffer, head.byteOffset).getUint32(0);
  if (length > maxFrameBytes) throw malformed(`a frame of ${length} bytes is announced`);
  return length === 0 ? new Uint8Array() : await readExactly(channel, length, signal);
}

/** Skips what comes before `marker`, and the marker. */
export async function skipThrough(channel: Duplex, marker: Uint8Array, signal?: AbortSignal): Promise<void> {
  if (marker.length === 0) return;
  let window = Buffer.from(await readExactly(channel, marker.length, signal));
  while (!window.equals(marker)) {
    // The marker can begin no earlier than at the next occurrence of its first byte.
    const next = window.indexOf(marker[0] as number, 1);
    const missing = next < 0 ? marker.length : next;
    window = Buffer.concat([window.subarray(missing), await readExactly(channel, missing, signal)]);
  }
}

function readExactly(channel: Duplex, bytes: number, signal?: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => {
      channel.off("readable", take).off("end", ended).off("close", ended).off("error", failed);
      signal?.removeEventListener("abort", aborted);
      finish();
    };
    const take = () => {
      const chunk: Uint8Array | null = channel.read(bytes);
      // At its end a stream gives what is left, however little.
      if (chunk !== null && chunk.length === bytes) settle(() => resolve(chunk));
    };
    const ended = () => settle(() => reject(wentAway()));
    const failed = (error: Error) => settle(() => reject(wentAway(error)));
    const aborted = () => settle(() => reject(signal?.reason));
    if (signal?.aborted) return reject(signal.reason);
    if (channel.destroyed || channel.readableEnded) return reject(wentAway(channel.errored ?? undefined));
    channel.on("readable", take).on("end", ended).on("close", ended).on("error", failed);
    signal?.addEventListener("abort", aborted);
    take();
  });
}

function wentAway(cause?: Error): SporeletError {
  return new SporeletError({
    code: "unavailable",
    operation: "read from the guest agent",
    reason: cause?.message ?? "the channel ended",
    cause,
  });
}

function malformed(reason: string): SporeletError {
  return new SporeletError({
    code: "incompatible",
    operation: "exchange a frame with the guest agent",
    reason,
  });
}
