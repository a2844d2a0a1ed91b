/** Resumes a machine and ends, leaving it to whoever attaches. Run as a program by the conformance suite. */
import { agent, firstContact, helloFrame } from "@sporelet/api";
import type { SlotSpec } from "../contract.ts";
import { createQemu } from "../qemu/driver.ts";

const spec = JSON.parse(process.argv[2] ?? "") as SlotSpec;
const slot = await createQemu().prepare(spec);
const hello = {
  ...{ kind: agent.HelloKind.RESUME, hostname: "elsewhere", generationId: "elsewhere" },
  machineId: "0123456789abcdef0123456789abcdef",
};
const { machine, channel } = await slot.resume({ firstWords: helloFrame(hello) });
await firstContact(channel, "sent");
process.stdout.write(JSON.stringify(machine.record), () => process.exit(0));
