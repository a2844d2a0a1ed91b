package freezer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// group is one cgroup with all that is below it.
type group struct {
	path string
	// events is cgroup.events; closed once the group is frozen.
	events int
	// state is cgroup.freeze, open since before the freeze, so that to thaw is one write. -1 for a group that
	// somebody else has frozen.
	state int
}

// freezeGroup asks a group to freeze and does not wait.
func freezeGroup(path string) (*group, error) {
	state, err := unix.Open(filepath.Join(path, "cgroup.freeze"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var text [8]byte
	n, err := unix.Pread(state, text[:], 0)
	if err != nil {
		_ = unix.Close(state)
		return nil, err
	}
	one := &group{path, -1, state}
	if err := one.openEvents(); err != nil {
		_ = unix.Close(state)
		return nil, err
	}
	if bytes.HasPrefix(text[:n], []byte("1")) {
		_ = unix.Close(state)
		one.state = -1
		return one, nil
	}
	if _, err := unix.Write(state, []byte("1")); err != nil {
		_ = unix.Close(state)
		one.closeEvents()
		return nil, err
	}
	return one, nil
}

// openEvents makes it possible to wait for the group.
func (g *group) openEvents() (err error) {
	g.closeEvents()
	g.events, err = unix.Open(filepath.Join(g.path, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		g.events = -1
	}
	return err
}

// awaitFrozen returns the groups that are not frozen at the deadline. The kernel tells of a change of
// cgroup.events by POLLPRI (linux: Documentation/admin-guide/cgroup-v2.rst, "cgroup.events").
func awaitFrozen(groups []*group, deadline time.Time) []*group {
	left := groups
	for {
		var waiting []*group
		var polled []unix.PollFd
		for _, one := range left {
			if one.isFrozen() {
				one.closeEvents()
				continue
			}
			waiting = append(waiting, one)
			polled = append(polled, unix.PollFd{Fd: int32(one.events), Events: unix.POLLPRI})
		}
		left = waiting
		remaining := time.Until(deadline)
		if len(left) == 0 || remaining <= 0 {
			return left
		}
		_, _ = unix.Poll(polled, int(remaining.Milliseconds())+1)
	}
}

// isFrozen reads the events, which also makes the next poll wait for a change. A group that is gone counts as
// frozen.
func (g *group) isFrozen() bool {
	var text [256]byte
	n, err := unix.Pread(g.events, text[:], 0)
	return err != nil || strings.Contains(string(text[:n]), "frozen 1")
}

func (g *group) closeEvents() {
	if g.events >= 0 {
		_ = unix.Close(g.events)
		g.events = -1
	}
}

func (g *group) thaw() error {
	g.closeEvents()
	if g.state < 0 {
		return nil
	}
	_, err := unix.Write(g.state, []byte("0"))
	_ = unix.Close(g.state)
	g.state = -1
	if vanished(err) {
		return nil
	}
	return err
}

// threads are those of the group and of all below it.
func (g *group) threads() (ids []string) {
	_ = filepath.WalkDir(g.path, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			text, _ := os.ReadFile(filepath.Join(path, "cgroup.threads"))
			ids = append(ids, strings.Fields(string(text))...)
		}
		return nil
	})
	return ids
}
