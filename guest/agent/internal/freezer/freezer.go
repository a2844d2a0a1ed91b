// Package freezer stops every program of the guest for a freeze, so that none of them runs in a clone before
// that is unique.
//
// It uses the freezer of cgroup v2 (linux: Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze"; Linux 5.2):
// a frozen process stands where it would return to user mode, holds no lock of the kernel, and does not run one
// instruction of its own until it is thawed. Frozen is every cgroup directly below the root, each with all that
// is below it: the one that the agent starts programs in, and those that a container engine made beside it.
// In the root itself are the agent and the kernel's threads; other processes there are moved out first.
package freezer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sporelet.ai/guest/agent/internal/proc"
)

// Root is where boot mounts the cgroup file system.
const Root = "/sys/fs/cgroup"

// programs is the cgroup of all that the agent starts.
const programs = "programs"

// limit bounds the wait until everything stands. Only a process in uninterruptible sleep, which waits for a
// device or a file server, takes longer than milliseconds.
const limit = 10 * time.Second

// Freezer stops and continues all programs of the guest.
type Freezer struct {
	root   string
	reaper *proc.Reaper
	mu     sync.Mutex
	// frozen are the groups that were frozen; nil when programs run.
	frozen []*group
	// list are the programs in the root cgroup; nil: as the kernel tells.
	list func() ([]string, error)
}

// New makes the cgroup for programs and has the reaper start them there.
func New(root string, reaper *proc.Reaper) (*Freezer, error) {
	path := filepath.Join(root, programs)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("programs cannot be frozen without cgroup v2: %w", err)
	}
	if _, err := os.Stat(filepath.Join(path, "cgroup.freeze")); err != nil {
		return nil, fmt.Errorf("programs cannot be frozen without cgroup v2: %w", err)
	}
	directory, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	reaper.StartIn(directory)
	return &Freezer{root: root, reaper: reaper}, nil
}

// Freeze returns when no program runs any more. When one cannot be stopped, the error names it and all of them
// go on. Nothing is started by the reaper until Thaw.
func (f *Freezer) Freeze() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen != nil {
		return nil
	}
	f.reaper.Hold()
	if err := f.freezeAll(time.Now().Add(limit)); err != nil {
		return errors.Join(err, f.thaw())
	}
	return nil
}

func (f *Freezer) freezeAll(deadline time.Time) error {
	f.frozen = []*group{}
	list := f.list
	if list == nil {
		list = (&strays{root: f.root, kernel: map[string]bool{}}).list
	}
	if _, err := f.gatherStrays(list); err != nil {
		return err
	}
	for {
		fresh, err := f.freezeOthers()
		if err != nil {
			return err
		}
		if left := awaitFrozen(fresh, deadline); len(left) > 0 {
			return fmt.Errorf("not frozen within %s: %s", limit, awake(left))
		}
		// What ran until now may have put another process, or itself, into the root cgroup. What is frozen does not, and
		// makes no new group.
		moved, err := f.gatherStrays(list)
		if err != nil {
			return err
		}
		if moved {
			fresh, err = f.again(programs)
			if err != nil {
				return err
			}
			if left := awaitFrozen(fresh, deadline); len(left) > 0 {
				return fmt.Errorf("not frozen within %s: %s", limit, awake(left))
			}
		} else if len(fresh) == 0 {
			return nil
		}
	}
}

// again is the group of this name, which is frozen and got another process, to be waited for once more.
func (f *Freezer) again(name string) ([]*group, error) {
	path := filepath.Join(f.root, name)
	for _, one := range f.frozen {
		if one.path == path {
			return []*group{one}, one.openEvents()
		}
	}
	return nil, nil
}

// freezeOthers asks those groups to freeze that were not asked yet.
func (f *Freezer) freezeOthers() ([]*group, error) {
	entries, err := os.ReadDir(f.root)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, one := range f.frozen {
		known[one.path] = true
	}
	var fresh []*group
	for _, entry := range entries {
		path := filepath.Join(f.root, entry.Name())
		if !entry.IsDir() || known[path] {
			continue
		}
		one, err := freezeGroup(path)
		if vanished(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("freeze %s: %w", path, err)
		}
		fresh = append(fresh, one)
		f.frozen = append(f.frozen, one)
	}
	return fresh, nil
}

// Thaw lets all programs go on. It does nothing when they run.
func (f *Freezer) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.thaw()
}

func (f *Freezer) thaw() error {
	if f.frozen == nil {
		return nil
	}
	var failures []error
	for _, one := range f.frozen {
		if err := one.thaw(); err != nil {
			failures = append(failures, fmt.Errorf("thaw %s: %w", one.path, err))
		}
	}
	f.frozen = nil
	f.reaper.Release()
	return errors.Join(failures...)
}

// vanished: the cgroup was removed meanwhile.
func vanished(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
