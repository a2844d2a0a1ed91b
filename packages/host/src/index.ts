export { hostArchitecture } from "./architecture.ts";
export type { MachineLimits } from "./cgroup/files.ts";
export { type MachineGroups, machineGroups } from "./cgroup/groups.ts";
export type { Check } from "./checks/check.ts";
export { hostChecks } from "./checks/checks.ts";
export { type HostCpu, hostCpu } from "./cpu.ts";
export { type MachineWeight, niceValues, weighProcess } from "./cpu-weight.ts";
export { syncPath, writeFileAtomic } from "./files/atomic.ts";
export { cloneRange } from "./files/clone-range.ts";
export { allocatedBytes, type CopyOptions, cloneFile, copySparse, punchZeroPages } from "./files/copy.ts";
export { dataExtents, scanData } from "./files/extents.ts";
export { type PhysicalExtent, type PhysicalExtentOptions, physicalExtents } from "./files/fiemap.ts";
export { type FilePiece, type Overlay, openOverlay } from "./files/overlay.ts";
export { type Extent, nonZeroRuns, pageBytes } from "./files/pages.ts";
export { writeFully } from "./files/write.ts";
export { zeroRange } from "./files/zero.ts";
export { findProgram } from "./find-program.ts";
export {
  type FuseAccess,
  type FuseFile,
  type FuseFileSystem,
  type FuseOptions,
  mountFuse,
} from "./fuse/file-system.ts";
export { hugePageFilter, withoutHugePages } from "./memory/huge-pages.ts";
export { type MemoryMerging, memoryMerging, withMergedMemory } from "./memory/merging.ts";
export { privatePageRuns } from "./memory/pagemap.ts";
export { type MemoryUse, memoryUse, readProcessMemory } from "./memory/process-memory.ts";
export type { MappedRegion } from "./memory/runs.ts";
export { createMemorySpool, type MemorySpool } from "./memory/spool.ts";
export { guestNetwork } from "./network/addresses.ts";
export { inNetns, type NetnsHandle, openNetns } from "./network/netns.ts";
export {
  type CloneNetwork,
  canUseNetns,
  createNetworkPool,
  type NetworkPool,
  type NetworkPoolOptions,
} from "./network/pool.ts";
export { listenerOf } from "./ports/listener.ts";
export {
  type PortTarget,
  type PublishedPort,
  type PublishOptions,
  publishPort,
  requireFreePort,
} from "./ports/publish.ts";
export { type ProcessResult, processStartTicks, type RunProcessOptions, runProcess } from "./process.ts";
export { installCommand, installHint } from "./programs.ts";
export { makeRuntimeDirectory, ownerOf, runtimeDirectoryOf } from "./runtime-directory.ts";
export { sha256 } from "./sha256.ts";
export { createSupply, type Supply, type SupplyOptions } from "./supply.ts";
export {
  detachMount,
  inNetworkNamespace,
  loadSyscalls,
  punchHole,
  seekData,
  seekHole,
  willNeed,
} from "./syscalls.ts";
export { tscKhz } from "./tsc.ts";
export { canReflink } from "./volume/reflink.ts";
export { openVolume, type Volume, type VolumeOptions } from "./volume/volume.ts";
export { type ZstdCompressor, zstdCompressor, zstdDecompressInto } from "./zstd.ts";
