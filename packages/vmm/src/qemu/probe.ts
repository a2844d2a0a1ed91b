import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { release, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { firstContact } from "@sporelet/api";
import { SporeletError } from "@sporelet/errors";
import { installHint, writeFileAtomic } from "@sporelet/host";
import type { Accelerator, MachineShape, Probe, ProbeOptions, Vmm } from "../contract.ts";
import { within } from "../wait.ts";
import { cpuModels, machineRevision, machineType } from "./command-line.ts";
import { askVersion, isTooOld, oldestVersion } from "./version.ts";

/** A working guest answers after 0.3 s under KVM and 2-4 s in software; an overloaded host takes longer. */
const trialTimeoutMs = { kvm: 5_000, tcg: 60_000 } as const;

type Problem = Probe["problems"][number];
/** What is remembered: the outcome of each accelerator that was tried. */
type Outcomes = Partial<Record<Accelerator, "works" | Problem>>;

/**
 * Finds QEMU and says which accelerators work. That /dev/kvm can be opened proves nothing (nested and
 * para-virtualised hosts offer it and a stock kernel hangs or crashes early), so each is tried by booting
 * Layer 0 until its agent answers.
 */
export async function probeQemu(
  vmm: Pick<Vmm, "boot">,
  program: string,
  options: ProbeOptions,
): Promise<Probe> {
  const { guest, cacheDirectory, signal } = options;
  const unusable = (finding: string, remedy: string, found: Partial<Probe> = {}): Probe => {
    return { driver: "qemu", accelerators: [], problems: [{ finding, remedy }], ...found };
  };
  const binary = await findProgram(program);
  if (binary === undefined) return unusable(`${program} is not installed`, installHint("qemu-system-x86_64"));
  const { version: qemuVersion, numbers, accelerators } = await askVersion(binary, signal);
  if (qemuVersion === undefined || numbers === undefined)
    return unusable(`${binary} does not tell its version`, installHint("qemu-system-x86_64"));
  if (isTooOld(numbers)) {
    const finding = `QEMU ${qemuVersion} is too old: ${oldestVersion.join(".")} is needed`;
    return unusable(finding, "install a newer qemu-system-x86", { binary });
  }

  const version = `${qemuVersion} machine ${machineRevision}`;
  const cache = cacheDirectory && join(cacheDirectory, `qemu-${await hostKey(binary, version)}.json`);
  const outcomes: Outcomes = cache === undefined ? {} : await recall(cache);
  const kvm = await openKvm();
  if (kvm !== undefined) outcomes.kvm = kvm;
  for (const accelerator of ["kvm", "tcg"] as const) {
    if (guest === undefined || outcomes[accelerator] !== undefined || !accelerators.includes(accelerator))
      continue;
    const outcome = await tryGuest(vmm, accelerator, guest, signal);
    outcomes[accelerator] = outcome;
    // Software emulation fails for want of time only: an overloaded moment must not be remembered.
    const lasting = accelerator === "kvm" || outcome === "works";
    if (cache !== undefined && lasting) await writeFileAtomic(cache, JSON.stringify(outcomes));
  }
  return { driver: "qemu", version, machineType, cpuModels, binary, ...judge(outcomes, accelerators) };
}

/** Pure: what is usable, and what people should know. */
export function judge(
  outcomes: Outcomes,
  compiledIn: readonly string[],
): Pick<Probe, "accelerators" | "problems"> {
  const usable: Accelerator[] = [];
  const problems: Problem[] = [];
  for (const accelerator of ["kvm", "tcg"] as const) {
    const outcome = outcomes[accelerator];
    if (outcome === "works") usable.push(accelerator);
    else if (outcome !== undefined) problems.push(outcome);
    else if (!compiledIn.includes(accelerator)) {
      problems.push({ finding: `this QEMU was built without ${accelerator.toUpperCase()}` });
    }
    // Software emulation asks nothing of the host; hardware has to be tried.
    else if (accelerator === "tcg") usable.push(accelerator);
    else problems.push({ finding: "KVM: not tried yet; the first build tries it with a real guest" });
  }
  return { accelerators: usable, problems };
}

async function tryGuest(
  vmm: Pick<Vmm, "boot">,
  accelerator: Accelerator,
  guest: { kernel: string; initramfs: string },
  signal: AbortSignal | undefined,
): Promise<"works" | Problem> {
  const directory = await mkdtemp(join(tmpdir(), "sporelet-probe-"));
  const name = accelerator.toUpperCase();
  const timeoutMs = trialTimeoutMs[accelerator];
  const shape: MachineShape = {
    cpus: 1,
    memoryBytes: 256 << 20,
    accelerator,
    disks: 0,
    network: "none",
    mac: "",
  };
  const files = { directory, runtimeDirectory: directory, disks: [], memory: join(directory, "memory") };
  try {
    await using machine = await vmm.boot(
      { id: "probe", shape, ...files, ...guest, kernelArguments: ["quiet"] },
      signal,
    );
    const channel = await machine.openChannel(signal);
    const answer = firstContact(channel, { kind: 1 /* BOOT */ }, { timeoutMs, ...(signal && { signal }) });
    const died = machine.ended.then(({ detail }) => {
      throw new SporeletError({
        code: "unavailable",
        operation: "try",
        subject: name,
        reason: detail ?? "it ended",
      });
    });
    await within(Promise.race([answer, died]), { operation: "try", subject: name, timeoutMs, signal });
    channel.destroy();
    return "works";
  } catch (error) {
    signal?.throwIfAborted();
    const failure = SporeletError.from(error, { operation: "try", subject: name });
    const { code, reason } = failure;
    // The agent answered: what it has to object is not the accelerator's fault.
    if (code === "guest_failed" || code === "incompatible") return "works";
    // No space or memory now: that says nothing about the accelerator.
    if (code === "resource_exhausted") throw failure;
    const why =
      code === "deadline_exceeded"
        ? `a stock kernel did not get through boot within ${timeoutMs / 1000} s`
        : reason;
    const finding = `${name}: ${why}`;
    return accelerator === "kvm"
      ? {
          finding,
          remedy:
            "run on hardware, or on a host whose nested virtualisation works; meanwhile software emulation is used",
        }
      : { finding };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Undefined when /dev/kvm can be opened, which is worth a try. */
async function openKvm(): Promise<Problem | undefined> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      return {
        finding: "KVM: there is no /dev/kvm",
        remedy: "enable virtualisation in the firmware or for this guest, and load kvm_intel or kvm_amd",
      };
    }
    return {
      finding: "KVM: /dev/kvm may not be opened",
      remedy: `usermod -aG kvm ${process.env.USER ?? "$USER"}`,
    };
  }
}

async function findProgram(name: string): Promise<string | undefined> {
  const candidates = name.includes("/")
    ? [name]
    : (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, name));
  for (const candidate of candidates) {
    if (
      await access(candidate, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return candidate;
  }
  return undefined;
}

/** Answers hold for one QEMU, kernel, CPU and boot: a reboot may bring another hypervisor below us. */
async function hostKey(binary: string, version: string): Promise<string> {
  const [bootId, cpuinfo] = await Promise.all([
    readFile("/proc/sys/kernel/random/boot_id", "utf8"),
    readFile("/proc/cpuinfo", "utf8"),
  ]);
  const cpu = ["model name", "flags"].map(
    (name) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(cpuinfo)?.[1],
  );
  const key = JSON.stringify([binary, version, release(), bootId.trim(), cpu]);
  return createHash("sha256").update(key).digest("hex").slice(0, 16);
}

async function recall(path: string): Promise<Outcomes> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Outcomes;
  } catch {
    return {}; // None yet, or unreadable: ask again.
  }
}
