package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// deviceTimeout bounds the wait for the root disk's device node.
const deviceTimeout = 10 * time.Second

// switchRoot makes the file system on device the root of this process, and frees the initramfs. The
// process stays the same: PID 1 goes on where it was, its binary is kept by its mapping alone.
func switchRoot(device, kind string) error {
	const target = "/newroot"
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := waitForNode(device, deviceTimeout); err != nil {
		return err
	}
	if err := mountRoot(device, target, kind); err != nil {
		return err
	}
	for _, m := range kernelMounts {
		if err := os.MkdirAll(target+m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.target, target+m.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(target); err != nil {
		return err
	}
	var old unix.Stat_t
	if err := unix.Stat("/", &old); err != nil {
		return err
	}
	clear("/", old.Dev)
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root file system: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

func mountRoot(device, target, kind string) error {
	kinds := []string{kind}
	if kind == "" {
		kinds = diskFileSystems()
	}
	var failures []error
	for _, kind := range kinds {
		err := unix.Mount(device, target, kind, unix.MS_NOATIME, "")
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("mount %s as %s: %w", device, kind, err))
	}
	return errors.Join(failures...)
}

// diskFileSystems are those of /proc/filesystems that need a device. ext4 comes first: it is what the
// builder makes, and ext2 and ext3 would take it too.
func diskFileSystems() []string {
	kinds := []string{"ext4"}
	known, _ := os.ReadFile("/proc/filesystems")
	for line := range strings.Lines(string(known)) {
		if kind, ok := strings.CutPrefix(line, "\t"); ok {
			if kind = strings.TrimSpace(kind); !strings.HasPrefix(kind, "ext") {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// clear removes everything below directory that is on its own file system: what is left of an initramfs
// is memory.
func clear(directory string, device uint64) {
	entries, _ := os.ReadDir(directory)
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		var stat unix.Stat_t
		if unix.Lstat(path, &stat) != nil || stat.Dev != device {
			continue
		}
		if entry.IsDir() {
			clear(path, device)
			_ = unix.Rmdir(path)
		} else {
			_ = unix.Unlink(path)
		}
	}
}

// waitForNode waits until the kernel has made a device node, told by inotify.
func waitForNode(path string, timeout time.Duration) error {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Dir(path), unix.IN_CREATE); err != nil {
		return fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
	}
	deadline := time.Now().Add(timeout)
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%s did not appear within %s", path, timeout)
		}
		ready := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
		if n, _ := unix.Poll(ready, int(left.Milliseconds())+1); n > 0 {
			var events [4096]byte
			_, _ = unix.Read(watch, events[:])
		}
	}
}

// prepareTmp empties /tmp of the root disk and lets everybody use it. It stays on the disk: what is
// there does not count against the guest's memory, nor into its snapshots.
func prepareTmp() {
	entries, _ := os.ReadDir("/tmp")
	for _, entry := range entries {
		_ = os.RemoveAll(filepath.Join("/tmp", entry.Name()))
	}
	_ = os.Mkdir("/tmp", 0o1777)
	_ = unix.Chmod("/tmp", 0o1777)
}
