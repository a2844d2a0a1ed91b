import { duplexPair } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { parking } from "./parking.ts";
import { openQmp } from "./qmp.ts";

const options = {
  subject: "m1",
  explainEnd: () => Promise.reject(new Error("QEMU ended")),
  timeoutMs: 5_000,
};

/** A QEMU whose port is as the test says, which also tells of changes as it says. */
async function machine() {
  const [ours, theirs] = duplexPair();
  const send = (message: object) => theirs.write(`${JSON.stringify(message)}\n`);
  const state = { open: true, looks: 0 };
  const tell = (open: boolean, at = Date.now()) =>
    send({
      event: "VSERPORT_CHANGE",
      data: { id: "agent", open },
      timestamp: { seconds: Math.floor(at / 1000), microseconds: (at % 1000) * 1000 },
    });
  theirs.setEncoding("utf8").on("data", (text: string) => {
    for (const line of text.trim().split("\n")) {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      if (execute === "query-chardev") {
        state.looks += 1;
        send({ return: [{ label: "agent", "frontend-open": state.open }], id });
      } else send({ return: {}, id });
    }
  });
  send({ QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 } } } });
  const qmp = await openQmp(ours, options);
  const [channel, guest] = duplexPair();
  let parked = false;
  const park = parking(qmp);
  const begin = () =>
    park(channel, {}).then(() => {
      parked = true;
    });
  const looked = async (times: number) => {
    const until = state.looks + times;
    while (state.looks < until) await sleep(1);
  };
  return { state, tell, begin, looked, channel, guest, isParked: () => parked };
}

it("waits until the port was closed and is open again", async () => {
  const { state, begin, looked, channel, isParked } = await machine();
  const parking = begin();
  await looked(3);
  expect(channel.destroyed).toBe(true);
  state.open = false;
  await looked(3);
  expect(isParked()).toBe(false);
  state.open = true;
  await parking;
});

it("hears of a closing that it did not see", async () => {
  const { tell, begin, looked } = await machine();
  const parking = begin();
  await looked(3);
  tell(true);
  await parking;
});

it("waits for the port to be open when it was told of the closing", async () => {
  const { state, tell, begin, looked, isParked } = await machine();
  const parking = begin();
  tell(false);
  state.open = false;
  await looked(3);
  expect(isParked()).toBe(false);
  state.open = true;
  await parking;
});

it("takes no event that was held back since an earlier time", async () => {
  const { state, tell, begin, looked, isParked } = await machine();
  const before = Date.now() - 1;
  const parking = begin();
  tell(true, before);
  await looked(3);
  expect(isParked()).toBe(false);
  state.open = false;
  await looked(3);
  state.open = true;
  await parking;
});
