// Package boot is what PID 1 does before it serves: kernel file systems, modules, the root disk.
package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Log takes one line of progress.
type Log func(format string, args ...any)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// kernelMounts are needed before anything else and move along to the root disk.
var kernelMounts = []mount{
	{"proc", "/proc", "proc", strict, ""},
	{"sysfs", "/sys", "sysfs", strict, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
}

var userMounts = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"mqueue", "/dev/mqueue", "mqueue", strict, ""},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", strict, "nsdelegate"},
}

// tmp is for a guest without a root disk; on a disk /tmp is a directory.
var tmp = mount{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"}

// Run brings the machine from the kernel's hands to a state in which programs can run.
func Run(log Log) error {
	unix.Umask(0o022)
	for _, m := range kernelMounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	loadModules("/etc/sporelet/modules", log)
	reportSmallPieces(log)
	arguments := kernelArguments()
	mounts := userMounts
	if device := arguments["sporelet.root"]; device == "" {
		mounts = append(mounts, tmp)
	} else {
		if err := switchRoot(device, arguments["sporelet.rootfstype"]); err != nil {
			return err
		}
		log("root file system is %s", device)
		prepareTmp()
	}
	for _, m := range mounts {
		if err := m.do(); err != nil {
			log("%v", err)
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"} {
		_ = os.Symlink(target, link)
	}
	raiseLimits()
	os.Clearenv()
	_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return os.Chdir("/")
}

// raiseLimits gives programs room for files; the kernel's own limit for PID 1, 1024 and at most 4096, is
// too tight for a container engine.
func raiseLimits() {
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1 << 16, Max: 1 << 20})
	_ = syscall.Setrlimit(unix.RLIMIT_NPROC, &syscall.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// kernelArguments are the words of the kernel command line; one without "=" has an empty value.
func kernelArguments() map[string]string {
	line, _ := os.ReadFile("/proc/cmdline")
	arguments := map[string]string{}
	for _, word := range strings.Fields(string(line)) {
		key, value, _ := strings.Cut(word, "=")
		arguments[key] = value
	}
	return arguments
}

// loadModules loads what the list names, in its order. A module that does not load is reported, not
// fatal: it may be for a device of another VMM.
func loadModules(list string, log Log) {
	lines, err := os.ReadFile(list)
	if err != nil {
		return
	}
	for path := range strings.Lines(string(lines)) {
		if path = strings.TrimSpace(path); path == "" || strings.HasPrefix(path, "#") {
			continue
		}
		if err := loadModule(path); err != nil && !errors.Is(err, unix.EEXIST) {
			log("module %s: %v", filepath.Base(path), err)
		}
	}
}

// reportSmallPieces has freed memory given back to the host in pieces of 16 KiB and more. Left alone the kernel
// reports blocks of 2 MiB, of which programs that come and go leave few. The driver sets the order when it finds
// its device, so a word on the kernel's command line is not enough.
func reportSmallPieces(log Log) {
	const parameter = "/sys/module/page_reporting/parameters/page_reporting_order"
	file, err := os.OpenFile(parameter, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return // a kernel before 5.19, or one without page reporting
	}
	if err == nil {
		_, err = file.WriteString("2")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		log("page reporting: %v", err)
	}
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(file.Fd()), "", flags)
}
