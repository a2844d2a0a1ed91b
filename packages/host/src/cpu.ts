import { readFile } from "node:fs/promises";

/** A host's CPU as Linux tells it. */
export interface HostCpu {
  /** GenuineIntel, AuthenticAMD. */
  vendor: string;
  /** For people. */
  model: string;
  /** What it offers to programs and guests, on each of its cores, by the names of /proc/cpuinfo, in order. */
  features: string[];
}

/**
 * Flags in /proc/cpuinfo that say nothing about what a guest may use: what Linux notes about the CPU or about
 * itself (words 3, 7, 8 and 11 of linux:arch/x86/include/asm/cpufeatures.h), and what belongs to the host alone
 * (power, heat, monitoring). They differ between kernels, boot options and mitigations of the same CPU.
 */
const notForGuests = new Set(
  [
    // Linux's own notes.
    "constant_tsc nonstop_tsc nonstop_tsc_s3 tsc_reliable tsc_known_freq art rep_good nopl always xtopology cpuid",
    "up p3 p4 k7 k8 centaur_mcr cyrix_arr k6_mtrr cxmmx syscall32 sysenter32 lfence_rdtsc acc_power extd_apicid",
    "amd_dcm aperfmperf rapl xcompacted hypervisor ring3mwait cpuid_fault split_lock_detect bus_lock_detect",
    "user_shstk msr_ia32_feat_ctl per_thread_mba fast_cppc amd_lbr_v2 amd_lbr_pmc_freeze perfmon_v2",
    // Mitigations and how they are done.
    "pti kaiser retpoline retpoline_amd ibrs ibpb stibp ssbd ibrs_enhanced kernel_ibrs rsb_ctxsw rsb_vmexit",
    "use_ibpb use_ibrs_fw l1tf_pteinv zen zen1 zen2 zen3 zen4 msr_spec_ctrl virt_ssbd amd_ssbd md_clear",
    // Hardware help for the host's own virtual machines.
    "tpr_shadow flexpriority ept ept_ad vpid vnmi vmmcall vmcall vmw_vmmcall pvunlock vcpupreempt xenpv npt lbrv",
    // Performance counters, partitioning of caches, power and heat: the host's business.
    "arch_perfmon pebs bts ds_cpl dtes64 dts ds pdcm intel_pt arch_lbr cat_l2 cat_l3 cdp_l2 cdp_l3 mba rdt_a cqm",
    "cqm_llc cqm_occup_llc cqm_mbm_total cqm_mbm_local intel_ppin amd_ppin proc_feedback cpb epb hw_pstate",
    "dtherm ida arat pln pts hwp hwp_notify hwp_act_window hwp_epp hwp_pkg_req hfi tm tm2 est acpi pbe xtpr monitor",
    "smx dca sdbg",
  ].flatMap((line) => line.split(" ")),
);

/** Pure: what /proc/cpuinfo says. Empty where it is that of another architecture. */
export function parseCpuinfo(text: string): HostCpu {
  const first = (name: string) => new RegExp(`^${name}\\s*: *(.*)$`, "m").exec(text)?.[1] ?? "";
  const cores = [...text.matchAll(/^flags\s*: *(.*)$/gm)].map(([, flags = ""]) => new Set(flags.split(" ")));
  const [one = new Set<string>(), ...others] = cores;
  const features = [...one].filter(
    (flag) => flag !== "" && !notForGuests.has(flag) && others.every((flags) => flags.has(flag)),
  );
  return { vendor: first("vendor_id"), model: first("model name"), features: features.sort() };
}

let read: Promise<HostCpu> | undefined;

/** This host's CPU, read once. */
export function hostCpu(): Promise<HostCpu> {
  read ??= readFile("/proc/cpuinfo", "utf8").then(parseCpuinfo);
  return read;
}
