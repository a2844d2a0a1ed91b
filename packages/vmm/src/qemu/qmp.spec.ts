import { duplexPair } from "node:stream";
import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { expect, it } from "vitest";
import { openQmp, type Qmp } from "./qmp.ts";

const greeting = {
  QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: "" }, capabilities: [] },
};
interface Command {
  execute: string;
  arguments?: unknown;
  id: number;
}

/** A scripted QEMU: `answer` gives what it sends for a command, none for silence. */
function peer(answer: (command: Command) => object[] = ({ id }) => [{ return: {}, id }]) {
  const [ours, theirs] = duplexPair();
  const received: Command[] = [];
  const send = (...messages: object[]) =>
    theirs.write(messages.map((one) => `${JSON.stringify(one)}\r\n`).join(""));
  let rest = "";
  theirs.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const command = JSON.parse(line) as Command;
      received.push(command);
      send(...(command.execute === "qmp_capabilities" ? [{ return: {}, id: command.id }] : answer(command)));
    }
  });
  return { stream: ours, theirs, received, send };
}

const ended = new SporeletError({
  code: "unavailable",
  operation: "talk to",
  subject: "m1",
  reason: "QEMU ended",
  log: "its last words",
});
const options = { subject: "m1", explainEnd: async () => ended, timeoutMs: 5_000 };

async function connected(
  answer?: (command: Command) => object[],
): Promise<{ qmp: Qmp } & ReturnType<typeof peer>> {
  const one = peer(answer);
  one.send(greeting);
  return { qmp: await openQmp(one.stream, options), ...one };
}

it("negotiates at once and tells the version", async () => {
  const { qmp, received } = await connected();
  expect(qmp.version).toEqual([7, 2, 22]);
  expect(received.map(({ execute }) => execute)).toEqual(["qmp_capabilities"]);
});

it("matches replies to their commands, in whatever order they come", async () => {
  const waiting: Command[] = [];
  const { qmp, send } = await connected((command) => {
    waiting.push(command);
    if (waiting.length === 3) for (const { execute, id } of waiting.reverse()) send({ return: execute, id });
    return [];
  });
  expect(await Promise.all(["a", "b", "c"].map((name) => qmp.call(name)))).toEqual(["a", "b", "c"]);
});

it("sends commands without waiting for the replies of earlier ones", async () => {
  const { qmp, received } = await connected(() => []);
  void qmp.call("first").catch(() => {});
  void qmp.call("second", { x: 1 }).catch(() => {});
  await new Promise(setImmediate);
  expect(received.slice(1)).toMatchObject([{ execute: "first" }, { execute: "second", arguments: { x: 1 } }]);
});

it("gives a refusal in QEMU's words", async () => {
  const { qmp } = await connected(({ id }) => [{ error: { class: "GenericError", desc: "not now" }, id }]);
  await expect(qmp.call("stop")).rejects.toMatchObject({
    code: "failed_precondition",
    message: "cannot have QEMU do stop on m1: QEMU refused: not now",
  });
});

it("waits for the event that is wanted and for no other", async () => {
  const { qmp, send } = await connected();
  const event = qmp.event("MIGRATION", { accept: ({ status }) => status === "completed" });
  send(
    { event: "STOP" },
    { event: "MIGRATION", data: { status: "active" } },
    {
      event: "MIGRATION",
      data: { status: "completed" },
      timestamp: { seconds: 1_700_000_000, microseconds: 2_500 },
    },
  );
  expect(await event).toEqual({
    event: "MIGRATION",
    data: { status: "completed" },
    at: 1_700_000_000_002.5,
  });
});

it("hears an event that comes in one piece with a reply", async () => {
  const { qmp } = await connected(({ id }) => [{ event: "RESUME" }, { return: {}, id }]);
  const event = qmp.event("RESUME", {});
  await qmp.call("cont");
  expect((await event).event).toBe("RESUME");
});

it("does not depend on how the bytes are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      fc.string({ unit: "binary" }),
      async (cuts, text) => {
        const { qmp, theirs } = await connected(() => []);
        const reply = qmp.call("echo");
        const bytes = Buffer.from(
          `${JSON.stringify({ event: "X", data: { text } })}\r\n${JSON.stringify({ return: text, id: 2 })}\r\n`,
        );
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const length = cuts[i % cuts.length] ?? 1;
          theirs.write(bytes.subarray(at, at + length));
          at += length;
        }
        expect(await reply).toBe(text);
      },
    ),
    { numRuns: 50 },
  );
});

it("fails everything that is pending, and all that comes later, when the process ends", async () => {
  const { qmp, theirs } = await connected(() => []);
  const pending = [qmp.call("a"), qmp.call("b"), qmp.event("X", {})];
  theirs.destroy();
  qmp.close();
  for (const one of pending) await expect(one).rejects.toBe(ended);
  await expect(qmp.call("c")).rejects.toBe(ended);
  await expect(qmp.event("Y", {})).rejects.toBe(ended);
});

it("says why there was no greeting", async () => {
  const { stream } = peer();
  const opening = openQmp(stream, options);
  stream.destroy();
  await expect(opening).rejects.toBe(ended);
});

it("gives up when there is no greeting in time", async () => {
  const { stream } = peer();
  await expect(openQmp(stream, { ...options, timeoutMs: 5 })).rejects.toMatchObject({
    code: "deadline_exceeded",
  });
  expect(stream.destroyed).toBe(true);
});

it("ends the wait, not the connection, when a call is aborted", async () => {
  const { qmp, send, received } = await connected(({ execute, id }) =>
    execute === "slow" ? [] : [{ return: "quick", id }],
  );
  const controller = new AbortController();
  const slow = qmp.call("slow", undefined, { signal: controller.signal });
  controller.abort();
  await expect(slow).rejects.toMatchObject({ code: "cancelled" });
  send({ return: "late", id: received.at(-1)?.id });
  expect(await qmp.call("other")).toBe("quick");
});

it("closes the connection when the peer does not speak QMP", async () => {
  const { qmp, theirs } = await connected(() => []);
  const call = qmp.call("a");
  theirs.write("SSH-2.0\n");
  await expect(call).rejects.toMatchObject({ code: "internal" });
});
