package proc

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUrgencyIsNotInherited(t *testing.T) {
	if err := SetUrgency(Urgent); err == unix.EPERM || (err != nil && strings.Contains(err.Error(), "not permitted")) {
		t.Skip("real-time scheduling takes CAP_SYS_NICE")
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := SetUrgency(Ordinary); err != nil {
			t.Error(err)
		}
		if policy := ownPolicy(t); policy != unix.SCHED_NORMAL {
			t.Errorf("policy %d after the urgency has ended", policy)
		}
	}()
	if policy := ownPolicy(t); policy != unix.SCHED_FIFO|unix.SCHED_RESET_ON_FORK {
		t.Errorf("policy %#x, want SCHED_FIFO", policy)
	}
	// Field 41 of /proc/PID/stat is the policy (proc(5)).
	out, err := exec.Command("sh", "-c", "cut -d ' ' -f 41 /proc/$$/stat").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "0" {
		t.Errorf("a program that was started has policy %s, want 0 (SCHED_NORMAL)", got)
	}
}

// ownPolicy is that of the process's first thread, which always exists.
func ownPolicy(t *testing.T) int {
	t.Helper()
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(unix.Getpid()), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(policy)
}
