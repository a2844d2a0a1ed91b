package boot

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killPause is what processes that are not services get between SIGTERM and SIGKILL.
const killPause = 2 * time.Second

// End ends all processes, unmounts what can be unmounted, and restarts the machine, which ends its VMM
// process: guests run with reboot=t, and the VMM takes a restart for the end (QEMU: -no-reboot). PID 1 must
// have let go of its own files. It does not return.
func End() {
	endProcesses()
	unix.Sync()
	unmountAll()
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// endProcesses sends SIGTERM to everything but PID 1 and waits until the last has ended, then SIGKILL.
func endProcesses() {
	// Held open, a pidfd becomes readable when its process ends.
	var left []unix.PollFd
	for _, pid := range processes() {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			left = append(left, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	if len(left) == 0 {
		return
	}
	_ = unix.Kill(-1, unix.SIGTERM)
	_ = unix.Kill(-1, unix.SIGCONT)
	deadline := time.Now().Add(killPause)
	for len(left) > 0 && time.Now().Before(deadline) {
		_, _ = unix.Poll(left, int(time.Until(deadline).Milliseconds())+1)
		left = slices.DeleteFunc(left, func(p unix.PollFd) bool { return p.Revents != 0 })
	}
	_ = unix.Kill(-1, unix.SIGKILL)
}

// processes are all but PID 1 and the kernel's own threads, which have no command line.
func processes() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		pid := 0
		for _, digit := range entry.Name() {
			if digit < '0' || digit > '9' {
				pid = 0
				break
			}
			pid = pid*10 + int(digit-'0')
		}
		if pid <= 1 {
			continue
		}
		if line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil && len(line) > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmountAll unmounts in reverse order of mounting. What is still busy stays; the root becomes read-only.
func unmountAll() {
	text, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range slices.Backward(lines) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[0], "/dev/") && fields[2] != "overlay" || fields[1] == "/" {
			continue
		}
		_ = unix.Unmount(fields[1], 0)
	}
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
