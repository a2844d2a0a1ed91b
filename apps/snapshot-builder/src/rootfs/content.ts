/** What Sporelet adds to Debian's packages in a guest's root file system. */

/** Debian packages of Layer 1, with what they depend on and without what they recommend. */
export const rootfsPackages = [
  "containerd",
  "docker.io",
  "docker-compose",
  // dockerd's network rules; the alternative that uses the kernel's nf_tables is Debian's default.
  "iptables",
  // The kernel asks for modules by calling modprobe.
  "kmod",
  "ca-certificates",
  "iproute2",
];

/** Parts of the needed packages that nothing in the guest uses. */
export const rootfsExclude = ["/usr/lib/*/gconv/*"];

/** Of the kernel's modules, the directories of those that a container host without hardware can want. */
export const moduleDirectories = [
  "arch",
  "block",
  "crypto",
  "drivers/block",
  "drivers/char",
  "drivers/md",
  "drivers/net",
  "drivers/vhost",
  "drivers/virtio",
  "fs",
  "lib",
  "mm",
  "net",
  "security",
];

export interface GuestFile {
  /** Absolute path in the guest. */
  path: string;
  content: string;
  mode: number;
}

/** Where the preheater puts what names the machine's Compose project; see `composeScript`. */
export const composeSettings = "/etc/sporelet/compose.env";
/** Runs docker-compose on the machine's project. */
export const composeCommand = "/usr/lib/sporelet/compose";

/**
 * Used on a cold boot (the service `compose` below), by the preheater, and by people who look around in a
 * guest: `/usr/lib/sporelet/compose ps`.
 */
const composeScript = `#!/bin/sh
# Runs docker-compose on this machine's project; does nothing when it has none.
[ -r ${composeSettings} ] || exit 0
. ${composeSettings}
cd "$COMPOSE_DIRECTORY" || exit 1
# Seconds that one answer of dockerd may take; the default of 60 is too short for a host under load.
export COMPOSE_HTTP_TIMEOUT=1200
exec docker-compose --project-name "$COMPOSE_PROJECT" --file "$COMPOSE_FILE" "$@"
`;

/** See guest/agent: supervised in this order, stopped in the reverse one. */
const services = [
  {
    name: "containerd",
    argv: ["/usr/bin/containerd"],
    env: {},
    restart: "always",
    after: [],
    ready: { socket: "/run/containerd/containerd.sock" },
    oneshot: false,
  },
  {
    name: "dockerd",
    argv: ["/usr/sbin/dockerd", "--containerd=/run/containerd/containerd.sock"],
    env: {},
    restart: "always",
    after: ["containerd"],
    ready: { socket: "/run/docker.sock" },
    oneshot: false,
  },
  {
    name: "compose",
    argv: [composeCommand, "up", "-d"],
    env: {},
    restart: "no",
    after: ["dockerd"],
    oneshot: true,
  },
];

/**
 * - cgroupfs: there is no systemd.
 * - userland-proxy off: one process less for each published port, in every clone; the kernel's NAT does it all.
 * - local: container logs in a compact format with a limit, so that a long-lived clone does not fill its disk.
 */
const dockerd = {
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "storage-driver": "overlay2",
  "userland-proxy": false,
  "log-driver": "local",
};

const json = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`;

export const rootfsFiles: GuestFile[] = [
  { path: "/etc/sporelet/agent.json", content: json({ services }), mode: 0o644 },
  { path: "/etc/docker/daemon.json", content: json(dockerd), mode: 0o644 },
  { path: composeCommand, content: composeScript, mode: 0o755 },
  {
    path: "/etc/hosts",
    content: "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    mode: 0o644,
  },
  { path: "/etc/hostname", content: "sporelet\n", mode: 0o644 },
  // Empty: the agent writes each machine's own.
  { path: "/etc/machine-id", content: "", mode: 0o444 },
  { path: "/etc/resolv.conf", content: "", mode: 0o644 },
  { path: "/etc/fstab", content: "", mode: 0o644 },
];

export const rootfsDirectories = [
  "/etc/sporelet/hooks/before-freeze.d",
  "/etc/sporelet/hooks/after-resume.d",
  "/srv",
  "/var/log/sporelet",
];
