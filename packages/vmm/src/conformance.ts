/**
 * What every driver has to show, with real guests. A driver's own spec file calls `vmmConformance`; where it
 * cannot run, that file says why, and the report shows it.
 *
 * One machine is booted and frozen for the whole suite; the tests resume clones of it.
 */
import { copyFile, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { memoryUse, pageBytes, readProcessMemory } from "@sporelet/host";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { captureMemory, prepareCapture } from "./capture.ts";
import { type Frozen, freeze, type Guest, meetAgain, meetBooted, meetResumed } from "./conformance/guest.ts";
import { digestOfFile, processesWith } from "./conformance/host.ts";
import { networkTests } from "./conformance/network.ts";
import type {
  Accelerator,
  BootSpec,
  Machine,
  MachineRecord,
  MachineShape,
  SlotSpec,
  Vmm,
} from "./contract.ts";

export interface ConformanceContext extends AsyncDisposable {
  vmm: Vmm;
  accelerator: Accelerator;
  /** Layer 0: its initramfs holds the agent and busybox. */
  guest: { kernel: string; initramfs: string; kernelArguments: string[] };
  /** Existing directory for everything large. */
  directory: string;
  /** Existing directory for sockets, with a short path. */
  runtimeDirectory: string;
  /**
   * Resumes the machine in a process of its own, which ends when the machine runs: what a restart of the
   * daemon leaves behind.
   */
  resumeElsewhere(spec: SlotSpec): Promise<MachineRecord>;
}

const mebibyte = 1024 * 1024;
const memoryBytes = 256 * mebibyte;
const diskBytes = 16 * mebibyte;

/**
 * Declares the suite.
 *
 * @param title names driver, version and accelerator: `qemu 7.2.22 with tcg`.
 * @param makeContext called once, before the tests; the suite disposes of it.
 */
export function vmmConformance(title: string, makeContext: () => Promise<ConformanceContext>): void {
  describe(title, () => {
    let context: ConformanceContext;
    let shape: MachineShape;
    /** The booted machine that `frozen` was made of; it stays paused. */
    let parent: Guest;
    let frozen: Frozen;
    /** sha256 of what the guest holds in its memory, and of the frozen memory. */
    let blobDigest: string;
    let memoryDigest: string;
    let count = 0;

    const newDirectory = async () => {
      const directory = join(context.directory, `m${count++}`);
      await mkdir(directory);
      return directory;
    };
    /** Files of a new machine with a disk of its own. */
    const bootSpec = async (): Promise<BootSpec> => {
      const directory = await newDirectory();
      const disk = join(directory, "disk");
      await writeFile(disk, "");
      await truncate(disk, diskBytes);
      const { guest, runtimeDirectory } = context;
      const id = basename(directory);
      const memory = join(directory, "memory");
      return {
        id,
        shape,
        ...guest,
        directory,
        runtimeDirectory,
        memory,
        disks: [{ path: disk }],
      };
    };
    const slotSpec = async ({ memory, vmstate, disk }: Frozen = frozen): Promise<SlotSpec> => {
      const spec = await bootSpec();
      await copyFile(disk, join(spec.directory, "disk"));
      return { ...spec, memory, vmstate };
    };
    const clone = async (from?: Frozen): Promise<Guest> => {
      await using slot = await context.vmm.prepare(await slotSpec(from));
      return await meetResumed(slot);
    };
    const processes = () => processesWith(context.directory);
    /** That all memory of a paused machine is found in the VMM, and captured as it is there. */
    const expectCaptured = async (machine: Machine, captured?: string) => {
      const regions = await machine.memoryMap();
      expect(regions.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(memoryBytes);
      const target = captured ?? join(await newDirectory(), "memory");
      if (captured === undefined) await captureMemory({ machine, target });
      await using file = await open(target, "r");
      for (const { address, offset, bytes } of regions) {
        const [inProcess, inFile] = [Buffer.alloc(bytes), Buffer.alloc(bytes)];
        await readProcessMemory(machine.pid, address, inProcess);
        await file.read(inFile, 0, bytes, offset);
        expect(Buffer.compare(inProcess, inFile)).toBe(0);
      }
    };

    beforeAll(async () => {
      context = await makeContext();
      const { accelerator } = context;
      shape = { cpus: 1, memoryBytes, accelerator, disks: 1, network: "none", mac: "52:54:00:6b:00:02" };
      parent = await meetBooted(await context.vmm.boot(await bootSpec()));
      await parent.run("dd if=/dev/urandom of=/blob bs=1M count=24 && echo 1 > /dev/vda");
      await parent.run("(while :; do sleep 1000; done) > /dev/null 2>&1 & echo $! > /background");
      blobDigest = await parent.run("sha256sum /blob");
      frozen = await freeze(parent, await newDirectory());
      memoryDigest = await digestOfFile(frozen.memory);
    });
    afterAll(async () => {
      await parent?.machine.stop();
      await context?.[Symbol.asyncDispose]();
    });
    afterEach(async () => {
      expect(await processes(), "processes other than the booted machine").toEqual([parent.machine.pid]);
      expect(await digestOfFile(frozen.memory), "nobody writes a frozen memory").toBe(memoryDigest);
      for (const name of await readdir(context.directory)) {
        const directory = join(context.directory, name);
        const kept = [parent.machine.record.directory, join(frozen.memory, "..")];
        if (!kept.includes(directory)) await rm(directory, { recursive: true });
      }
    });

    describe("a booted machine", () => {
      it("is as large as asked, and only its data takes space", async () => {
        const { size, blocks } = await stat(frozen.memory);
        expect(size).toBe(memoryBytes);
        expect(blocks * 512).toBeLessThan(memoryBytes);
      });

      it("goes on after a freeze without changing what was frozen", async () => {
        await parent.machine.unpause();
        try {
          await using again = {
            ...(await meetAgain(parent.machine, parent.generationId)),
            [Symbol.asyncDispose]: async () => {},
          };
          expect(await again.run("sha256sum /blob")).toBe(blobDigest);
          await again.run("head -c 1000000 /dev/urandom > /more; echo 2 > /dev/vda");
          expect(await again.run("head -c 1 /dev/vda")).toBe("2");
          await again.park();
        } finally {
          await parent.machine.pause();
        }
      });

      it("does not take a memory file that exists for its own", async () => {
        const spec = await bootSpec();
        await writeFile(spec.memory, "of somebody else");
        await expect(context.vmm.boot(spec)).rejects.toMatchObject({ code: "already_exists" });
        expect(await readFile(spec.memory, "utf8")).toBe("of somebody else");
      });
    });

    describe("a clone", () => {
      it("continues where the machine was frozen, with its memory, processes and disk", async () => {
        await using guest = await clone();
        expect(guest.machine.origin).toBe("resume");
        expect(await guest.run("sha256sum /blob")).toBe(blobDigest);
        expect(await guest.run("kill -0 $(cat /background) && echo alive")).toBe("alive");
        expect(await guest.run("head -c 1 /dev/vda")).toBe("1");
      });

      it("has its own memory and disk beside others of the same state", async () => {
        const numbers = [1, 2, 3, 4];
        const guests = await Promise.all(numbers.map(() => clone()));
        try {
          await Promise.all(
            guests.map((guest, i) => guest.run(`echo clone ${i} > /mine; echo ${i} > /dev/vda; sync`)),
          );
          const seen = await Promise.all(
            guests.map((guest) => guest.run("cat /mine; head -c 1 /dev/vda; echo; sha256sum /blob")),
          );
          expect(seen).toEqual(guests.map((_, i) => `clone ${i}\n${i}\n${blobDigest}`));
        } finally {
          await Promise.all(guests.map(({ machine }) => machine.stop()));
        }
      });

      it("pauses and goes on", async () => {
        await using guest = await clone();
        const order: string[] = [];
        await guest.machine.pause();
        const answer = guest.run("echo here").then((text) => order.push(text));
        await captureMemory({ machine: guest.machine, target: join(await newDirectory(), "memory") });
        order.push("unpaused");
        await guest.machine.unpause();
        await answer;
        expect(order).toEqual(["unpaused", "here"]);
      });

      it("has one agent channel at a time", async () => {
        await using guest = await clone();
        await expect(guest.machine.openChannel()).rejects.toMatchObject({ code: "failed_precondition" });
        await using again = await guest.reconnect();
        expect(await again.run("echo there")).toBe("there");
      });

      it("is frozen in its turn, and the next generation has what it added", async () => {
        await using guest = await clone();
        await guest.run("dd if=/dev/urandom of=/second bs=1M count=8; rm /blob; echo 3 > /dev/vda");
        const second = await guest.run("sha256sum /second");
        const next = await freeze(guest, await newDirectory());
        await guest.machine.unpause();
        await using going = await meetAgain(guest.machine, guest.generationId);
        await going.run("echo changed > /second; echo 4 > /dev/vda");

        await using grandchild = await clone(next);
        expect(await grandchild.run("sha256sum /second; ls /blob 2>&1 || true")).toContain(second);
        expect(await grandchild.run("ls / | grep -c blob || true")).toBe("0");
        expect(await grandchild.run("head -c 1 /dev/vda")).toBe("3");
        const third = await freeze(grandchild, await newDirectory());
        await using last = await clone(third);
        expect(await last.run("sha256sum /second")).toBe(second);
      });

      it("is captured as it was in the pause, and all that differs from its state is known", async () => {
        await using guest = await clone();
        await guest.run("head -c 3000000 /dev/urandom > /added; rm /blob");
        const target = join(await newDirectory(), "memory");
        await using capture = await prepareCapture({ machine: guest.machine, target });
        await guest.machine.pause();
        const inPause = Buffer.alloc(memoryBytes);
        for (const { address, offset, bytes } of await guest.machine.memoryMap()) {
          await readProcessMemory(guest.machine.pid, address, inPause.subarray(offset, offset + bytes));
        }
        await capture.take();
        await guest.machine.unpause();
        await guest.run("head -c 3000000 /dev/urandom > /added");
        const { changed = [] } = await capture.complete();
        expect(inPause.equals(await readFile(target))).toBe(true);
        const base = await readFile(frozen.memory);
        const known = new Set(
          changed.flatMap(({ offset, length }) =>
            Array.from({ length: length / pageBytes }, (_, i) => offset / pageBytes + i),
          ),
        );
        const differing = Array.from({ length: memoryBytes / pageBytes }, (_, page) => page).filter(
          (page) => {
            const [start, end] = [page * pageBytes, (page + 1) * pageBytes];
            return base.compare(inPause, start, end, start, end) !== 0;
          },
        );
        expect(differing.length).toBeGreaterThan(3_000_000 / pageBytes);
        expect(differing.every((page) => known.has(page))).toBe(true);
        expect(known.size).toBe(differing.length);
      });

      it("shows where its memory lies in the VMM", async () => {
        await using guest = await clone();
        await guest.machine.pause();
        await expectCaptured(guest.machine);
      });

      it("gives back what its guest frees, of the frozen memory and of its own", async () => {
        await using guest = await clone();
        await guest.run("dd if=/dev/urandom of=/grown bs=1M count=48");
        const { privateBytes: grown } = await memoryUse(guest.machine.pid);
        // That the frozen memory stays as it was is looked at after each test.
        await guest.run("rm /grown /blob");
        let now = grown;
        for (const end = Date.now() + 60_000; now > grown - 36 * mebibyte && Date.now() < end; ) {
          await sleep(100);
          now = (await memoryUse(guest.machine.pid)).privateBytes;
        }
        expect(now).toBeLessThanOrEqual(grown - 36 * mebibyte);

        // What was given back is used anew, and all of it is in the next frozen state.
        await guest.run("dd if=/dev/urandom of=/again bs=1M count=32");
        const again = await guest.run("sha256sum /again");
        const next = await freeze(guest, await newDirectory());
        await expectCaptured(guest.machine, next.memory);
        await using child = await clone(next);
        expect(await child.run("sha256sum /again; ls / | grep -c blob || true")).toBe(`${again}\n0`);
        await guest.machine.unpause();
        await using going = await meetAgain(guest.machine, guest.generationId);
        expect(await going.run("sha256sum /again")).toBe(again);
      });

      it("does not save its state while it runs", async () => {
        await using guest = await clone();
        const vmstate = join(await newDirectory(), "vmstate");
        await expect(guest.machine.saveState(vmstate)).rejects.toMatchObject({ code: "failed_precondition" });
        await expect(stat(vmstate)).rejects.toMatchObject({ code: "ENOENT" });
      });

      it("is taken over from a process that is gone", async () => {
        const record = await context.resumeElsewhere(await slotSpec());
        const machine = await context.vmm.attach(record);
        if (machine === undefined) throw new Error("it is not there");
        await using guest = await meetAgain(machine, "elsewhere");
        expect(await guest.run("sha256sum /blob")).toBe(blobDigest);
        await machine.stop();
        expect(await machine.ended).toEqual({ reason: "stopped" });
        expect(await context.vmm.attach(record)).toBeUndefined();
      });
    });

    describe("a network", () => networkTests({ context: () => context, bootSpec, slotSpec, newDirectory }));

    describe("the end of a machine", () => {
      it("is the guest's when that switches itself off", async () => {
        await using guest = await clone();
        guest.run("reboot -f").catch(() => {});
        expect(await guest.machine.ended).toMatchObject({ reason: "guest" });
      });

      it("is ours when it is stopped, however often", async () => {
        await using guest = await clone();
        await Promise.all([guest.machine.stop(), guest.machine.stop()]);
        expect(await guest.machine.ended).toEqual({ reason: "stopped" });
        expect(await readdir(context.runtimeDirectory)).toHaveLength(
          await socketsOf(context, parent.machine),
        );
      });

      it("comes in bounded time when the VMM does not react", async () => {
        await using guest = await clone();
        process.kill(guest.machine.pid, "SIGSTOP");
        await guest.machine.stop();
        expect(await guest.machine.ended).toEqual({ reason: "stopped" });
      });

      it("is a crash when the VMM dies, and what was under way fails with the reason", async () => {
        await using guest = await clone();
        process.kill(guest.machine.pid, "SIGSTOP");
        const pause = guest.machine.pause();
        process.kill(guest.machine.pid, "SIGKILL");
        await expect(pause).rejects.toMatchObject({
          code: "unavailable",
          message: expect.stringContaining("SIGKILL"),
        });
        expect(await guest.machine.ended).toMatchObject({ reason: "crashed" });
        await expect(guest.machine.unpause()).rejects.toMatchObject({ code: "unavailable" });
      });
    });

    describe("a damaged state", () => {
      const refused = async (change: (copy: Frozen) => Promise<void>) => {
        const directory = await newDirectory();
        const copy = { ...frozen, vmstate: join(directory, "vmstate"), memory: join(directory, "memory") };
        await copyFile(frozen.vmstate, copy.vmstate);
        await writeFile(copy.memory, "");
        await truncate(copy.memory, memoryBytes);
        await change(copy);
        const error = await clone(copy).catch((error) => error);
        expect(error).toMatchObject({ code: "corrupt" });
        return String(error.log);
      };

      it("is refused when the machine state is cut off", async () => {
        const { size } = await stat(frozen.vmstate);
        for (const bytes of [Math.floor(size / 2), 10])
          await refused(({ vmstate }) => truncate(vmstate, bytes));
        await refused(({ vmstate }) => truncate(vmstate, 0));
      });

      it("is refused in the VMM's own words when the machine state was altered", async () => {
        // Its first bytes say what it is. A changed register is noticed by nobody but the store's digest.
        for (const from of [0, 8]) {
          const log = await refused(async ({ vmstate }) => {
            await using file = await open(vmstate, "r+");
            await file.write(Buffer.alloc(64, 0xa5), 0, 64, from);
          });
          expect(log).not.toBe("undefined");
        }
      });

      it("is refused when the memory has another size or is missing", async () => {
        await refused(({ memory }) => truncate(memory, memoryBytes - 4096));
        await refused(({ memory }) => truncate(memory, memoryBytes + 4096));
        await refused(({ memory }) => rm(memory));
      });
    });

    describe("an abort", () => {
      /** Aborts a little later each time, until the operation is quicker than that. */
      const atEveryMoment = async (operation: (signal: AbortSignal) => Promise<AsyncDisposable>) => {
        for (let delayMs = -1; ; delayMs = delayMs < 4 ? delayMs + 1 : Math.ceil(delayMs * 1.5)) {
          const controller = new AbortController();
          if (delayMs < 0) controller.abort();
          else setTimeout(() => controller.abort(), delayMs).unref();
          const outcome = await operation(controller.signal).catch((error) => error);
          if (!(outcome instanceof Error)) {
            await outcome[Symbol.asyncDispose]();
            return;
          }
          expect(outcome).toMatchObject({ code: "cancelled" });
          expect(await processes()).toEqual([parent.machine.pid]);
        }
      };

      it("of a boot leaves no process", async () => {
        await atEveryMoment(async (signal) => await context.vmm.boot(await bootSpec(), signal));
      });

      it("of preparing leaves no process", async () => {
        await atEveryMoment(async (signal) => await context.vmm.prepare(await slotSpec(), signal));
      });

      it("of resuming leaves no process", async () => {
        await atEveryMoment(async (signal) => {
          const slot = await context.vmm.prepare(await slotSpec());
          return (await slot.resume({ signal })).machine;
        });
      });

      it("and another one give a slot up once, and both wait for its end", async () => {
        const given = await context.vmm.prepare(await slotSpec());
        void given.discard();
        await given.discard();
        expect(await processes()).toEqual([parent.machine.pid]);
      });

      it("is not needed for a slot that is given up", async () => {
        const slot = await context.vmm.prepare(await slotSpec());
        await slot.discard();
        await expect(slot.resume()).rejects.toMatchObject({ code: "failed_precondition" });
      });
    });
  });
}

async function socketsOf({ runtimeDirectory }: ConformanceContext, { id }: Machine): Promise<number> {
  return (await readdir(runtimeDirectory)).filter((name) => name.startsWith(`${id}.`)).length;
}
