package proc

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Urgency is who gets the processor first.
type Urgency int

const (
	// Ordinary: like everyone.
	Ordinary Urgency = iota
	// Urgent: before every process that is not, as long as there is something to do (SCHED_FIFO, sched(7)).
	Urgent
)

// SetUrgency applies to all threads that this process has now. What they start is ordinary
// (SCHED_RESET_ON_FORK): an urgent agent runs hooks and programs like any other.
//
// Everything in a guest wakes up together when it is resumed. With one virtual CPU the agent then shares it
// with every other process, and the clone becomes unique several times later.
func SetUrgency(urgency Urgency) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	policy, priority := unix.SCHED_NORMAL, int32(0)
	if urgency == Urgent {
		policy, priority = unix.SCHED_FIFO|unix.SCHED_RESET_ON_FORK, 1
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue
		}
		// struct sched_param holds nothing but the priority.
		_, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(id), uintptr(policy), uintptr(unsafe.Pointer(&priority)))
		// A thread may end meanwhile.
		if errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("sched_setscheduler: %w", errno)
		}
	}
	return nil
}
