/** The Debian package of each program that Sporelet runs on the host. */
const packages: Record<string, string> = {
  cpio: "cpio",
  busybox: "busybox-static",
  debugfs: "e2fsprogs",
  "docker-registry": "docker-registry",
  fsck: "util-linux",
  ip: "iproute2",
  kmod: "kmod",
  losetup: "mount",
  lz4: "lz4",
  "mkfs.xfs": "xfsprogs",
  mke2fs: "e2fsprogs",
  mmdebstrap: "mmdebstrap",
  modprobe: "kmod",
  mount: "mount",
  nft: "nftables",
  "qemu-system-x86_64": "qemu-system-x86",
  skopeo: "skopeo",
  tar: "tar",
  umount: "mount",
  unshare: "util-linux",
  xfs_repair: "xfsprogs",
  zstd: "zstd",
};

/** The command that installs the packages on Debian and its relatives. */
export function installCommand(...names: string[]): string {
  return `apt-get install -y ${[...new Set(names)].join(" ")}`;
}

/** What to do about a missing program. */
export function installHint(program: string): string {
  const name = program.slice(program.lastIndexOf("/") + 1);
  const known = packages[name];
  return known === undefined ? `install ${name} and see that it is on the PATH` : installCommand(known);
}
