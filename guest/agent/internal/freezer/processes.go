package freezer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// strays finds processes in the root cgroup. It is asked again and again, and the kernel's own threads, of which there
// are a hundred, do not become programs: they are looked at once.
type strays struct {
	root string
	// kernel are the ids of threads of the kernel.
	kernel map[string]bool
}

func (s *strays) list() (ids []string, err error) {
	text, err := os.ReadFile(filepath.Join(s.root, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	for _, id := range strings.Fields(string(text)) {
		if id == "1" || s.kernel[id] {
			continue
		}
		switch _, state, flags := status(id); {
		case flags&kernelThread != 0:
			s.kernel[id] = true
		case isAlive(state):
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// gatherStrays moves processes that somebody put into the root cgroup to the programs, and says whether there were any.
// One that forks meanwhile needs another turn.
func (f *Freezer) gatherStrays(list func() ([]string, error)) (moved bool, err error) {
	const turns = 10
	target := filepath.Join(f.root, programs, "cgroup.procs")
	for range turns {
		ids, err := list()
		if err != nil {
			return moved, err
		}
		if len(ids) == 0 {
			return moved, nil
		}
		for _, id := range ids {
			if err := os.WriteFile(target, []byte(id), 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return moved, fmt.Errorf("take process %s out of the root cgroup: %w", id, err)
			}
			moved = true
		}
	}
	return moved, errors.New("processes keep coming into the root cgroup")
}

// kernelThread is PF_KTHREAD (linux: include/linux/sched.h).
const kernelThread = 0x00200000

// isProgram is false for threads of the kernel and for what has ended.
func isProgram(id string) bool {
	_, state, flags := status(id)
	return isAlive(state) && flags&kernelThread == 0
}

func isAlive(state byte) bool { return state != 0 && state != 'Z' && state != 'X' }

// status reads the name, state and flags of a process or thread from its stat (proc_pid_stat(5)); no state
// when there is none.
func status(id string) (name string, state byte, flags uint64) {
	text, _ := os.ReadFile("/proc/" + id + "/stat")
	return parseStatus(string(text))
}

// parseStatus takes the name as what is between the first "(" and the last ")": it may hold both.
func parseStatus(stat string) (name string, state byte, flags uint64) {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin {
		return "", 0, 0
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 7 {
		return "", 0, 0
	}
	flags, _ = strconv.ParseUint(fields[6], 10, 64)
	return stat[begin+1 : end], fields[0][0], flags
}

// awake names what keeps groups from being frozen. A frozen thread sleeps interruptibly.
func awake(groups []*group) string {
	const most = 5
	var names []string
	for _, one := range groups {
		for _, id := range one.threads() {
			name, state, _ := status(id)
			switch {
			case state != 'D' && state != 'R':
			case len(names) == most:
				return strings.Join(names, ", ") + " and more"
			case state == 'D':
				names = append(names, fmt.Sprintf("process %s (%s) in uninterruptible sleep%s", id, name, waitsIn(id)))
			default:
				names = append(names, fmt.Sprintf("process %s (%s)", id, name))
			}
		}
	}
	if len(names) == 0 {
		return groups[0].path
	}
	return strings.Join(names, ", ")
}

// waitsIn is the kernel function that a thread sleeps in, where the kernel tells.
func waitsIn(id string) string {
	text, _ := os.ReadFile("/proc/" + id + "/wchan")
	if name := strings.TrimSpace(string(text)); name != "" && name != "0" {
		return " in " + name
	}
	return ""
}
