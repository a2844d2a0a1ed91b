// Package proc starts processes and collects their exit statuses.
//
// PID 1 has to reap every orphan of the guest, and a wait for "any child" takes the status of its own
// children too. So nothing else in the agent waits for a child: all are started by Reaper.Start, which
// enters them in a table, and one loop, woken by SIGCHLD, reaps whatever ended and hands the status to
// the entry if there is one. The lock is held over fork and entry, so a child cannot be reaped between.
package proc

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper owns the children of this process.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Process
	// orphans: reap children that were not started here, as PID 1 must.
	orphans bool
	wake    chan os.Signal
	// cgroup is where children are started; nil: in our own.
	cgroup *os.File
	// held is open while nothing may be started, nil otherwise.
	held chan struct{}
}

// NewReaper starts the loop; it runs as long as the process.
func NewReaper(orphans bool) *Reaper {
	r := &Reaper{children: map[int]*Process{}, orphans: orphans, wake: make(chan os.Signal, 1)}
	signal.Notify(r.wake, syscall.SIGCHLD)
	go func() {
		for range r.wake {
			r.reap()
		}
	}()
	return r
}

// Process is a child that leads its own process group.
type Process struct {
	Pid    int
	owner  *Reaper
	done   chan struct{}
	status syscall.WaitStatus
}

// StartIn has children start in the cgroup that this directory is.
func (r *Reaper) StartIn(cgroup *os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cgroup = cgroup
}

// Hold lets nothing be started until Release. In a frozen cgroup a child would stop between fork and exec, and
// its parent, which waits for that without giving up its processor to other goroutines, with it.
func (r *Reaper) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = make(chan struct{})
	}
}

// Release undoes Hold.
func (r *Reaper) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != nil {
		close(r.held)
		r.held = nil
	}
}

// lockReleased locks mu when nothing is held, or gives up.
func (r *Reaper) lockReleased(ctx context.Context) error {
	for {
		r.mu.Lock()
		held := r.held
		if held == nil {
			return nil
		}
		r.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Start starts cmd, whose standard streams must be files or nil: then nothing needs cmd.Wait.
// The child leads a new session, and so a new process group. ctx ends the wait for Release alone.
func (r *Reaper) Start(ctx context.Context, cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := r.lockReleased(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if r.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(r.cgroup.Fd())
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Pid: cmd.Process.Pid, owner: r, done: make(chan struct{})}
	r.children[p.Pid] = p
	_ = cmd.Process.Release()
	return p, nil
}

func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.orphans {
		for pid := range r.children {
			r.collect(pid)
		}
		return
	}
	for r.collect(-1) {
	}
}

// collect reaps one ended child, if there is one.
func (r *Reaper) collect(which int) bool {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(which, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return false
		}
		if p, ok := r.children[pid]; ok {
			delete(r.children, pid)
			p.status = status
			close(p.done)
		}
		return true
	}
}

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status is the wait status; valid once Done is closed.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// Result is the exit code (128 + signal as shells report it) and the signal that ended the process.
// Valid once Done is closed.
func (p *Process) Result() (code, sig int) {
	if p.status.Signaled() {
		sig = int(p.status.Signal())
		return 128 + sig, sig
	}
	return p.status.ExitStatus(), 0
}

// Signal sends a signal to the process group. Once the leader was reaped it does nothing: its number may
// belong to somebody else by then.
func (p *Process) Signal(sig syscall.Signal) error {
	p.owner.mu.Lock()
	defer p.owner.mu.Unlock()
	if p.owner.children[p.Pid] != p {
		return os.ErrProcessDone
	}
	return syscall.Kill(-p.Pid, sig)
}
