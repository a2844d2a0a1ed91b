package services

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/proc"
)

// State of a service.
type State string

const (
	Starting State = "starting"
	Running  State = "running"
	Exited   State = "exited"
	Failed   State = "failed"
)

// Status is what is known of a service.
type Status struct {
	Name     string
	State    State
	Pid      int
	ExitCode int
	Restarts int
	Log      string
}

// Pauses before a service is started again: they double while it keeps ending soon.
const (
	firstPause = time.Second
	longPause  = 30 * time.Second
	// soon: a service that ran longer begins with the first pause again.
	soon = 30 * time.Second
)

// logBytes is the size from which a log is set aside at the next start of its service.
const logBytes = 16 << 20

// Supervisor owns the services. Its zero value has none.
type Supervisor struct {
	Reaper  *proc.Reaper
	Journal *journal.Journal
	// LogDirectory gets one file for each service.
	LogDirectory string

	mu       sync.Mutex
	services []*service
	stopping context.Context
	stop     context.CancelFunc
}

type service struct {
	spec   Spec
	status Status
	// ready is closed when those that come after may start; ended when it will not run again.
	ready, ended chan struct{}
	process      *proc.Process
}

// Start starts all services, each as soon as those before it are ready, and returns at once. Only the
// first call does anything.
func (s *Supervisor) Start(specs []Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping != nil {
		return
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	byName := map[string]*service{}
	for _, spec := range specs {
		one := &service{
			spec:   spec,
			status: Status{Name: spec.Name, State: Starting, Log: filepath.Join(s.LogDirectory, spec.Name+".log")},
			ready:  make(chan struct{}), ended: make(chan struct{}),
		}
		s.services = append(s.services, one)
		byName[spec.Name] = one
	}
	for _, one := range s.services {
		go s.run(one, byName)
	}
}

// Status lists the services in the order of the config.
func (s *Supervisor) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, one := range s.services {
		all = append(all, one.status)
	}
	return all
}

func (s *Supervisor) update(one *service, change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&one.status)
}

// run is the life of one service.
func (s *Supervisor) run(one *service, byName map[string]*service) {
	defer close(one.ended)
	for _, name := range one.spec.After {
		before := byName[name]
		select {
		case <-before.ready:
		case <-s.stopping.Done():
			return
		case <-before.ended:
			select {
			case <-before.ready:
			default:
				s.Journal.Printf("service %s is not started: %s failed", one.spec.Name, name)
				s.update(one, func(status *Status) { status.State = Failed })
				return
			}
		}
	}
	pause := firstPause
	for {
		began := time.Now()
		failed := s.once(one)
		if s.stopping.Err() != nil || one.spec.Restart == Never || one.spec.Restart == OnFailure && !failed {
			return
		}
		if time.Since(began) > soon {
			pause = firstPause
		}
		s.Journal.Printf("service %s starts again in %s", one.spec.Name, pause)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-s.stopping.Done():
			wait.Stop()
			return
		}
		pause = min(2*pause, longPause)
		s.update(one, func(status *Status) { status.State, status.Restarts = Starting, status.Restarts+1 })
	}
}

// once starts a service and waits for its end.
func (s *Supervisor) once(one *service) (failed bool) {
	process, err := s.launch(one)
	if err != nil {
		s.Journal.Printf("service %s could not be started: %v", one.spec.Name, err)
		s.update(one, func(status *Status) { status.State, status.ExitCode = Failed, 127 })
		return true
	}
	s.Journal.Printf("service %s started, pid %d", one.spec.Name, process.Pid)
	if !one.spec.Oneshot {
		go s.awaitReady(one, process)
	}
	<-process.Done()
	code, _ := process.Result()
	s.mu.Lock()
	one.process = nil
	one.status.Pid, one.status.ExitCode, one.status.State = 0, code, Exited
	if code != 0 && s.stopping.Err() == nil {
		one.status.State = Failed
	}
	s.mu.Unlock()
	s.Journal.Printf("service %s ended with code %d", one.spec.Name, code)
	if one.spec.Oneshot && code == 0 {
		one.becomeReady()
	}
	return code != 0
}

func (s *Supervisor) launch(one *service) (*proc.Process, error) {
	log, err := openLog(one.status.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
	for key, value := range one.spec.Env {
		env = append(env, key+"="+value)
	}
	path := one.spec.Argv[0]
	if filepath.Base(path) == path {
		if path, err = exec.LookPath(path); err != nil {
			return nil, err
		}
	}
	directory := one.spec.WorkingDirectory
	if directory == "" {
		directory = "/"
	}
	command := &exec.Cmd{Path: path, Args: one.spec.Argv, Env: env, Dir: directory, Stdout: log, Stderr: log}
	// Held over the start, so that Stop either sees the process or prevents it.
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stopping.Err(); err != nil {
		return nil, err
	}
	process, err := s.Reaper.Start(s.stopping, command)
	if err != nil {
		return nil, err
	}
	one.process = process
	one.status.Pid = process.Pid
	return process, nil
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > logBytes {
		_ = os.Rename(path, path+".1")
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
}

func (s *Supervisor) awaitReady(one *service, process *proc.Process) {
	if one.spec.Ready != nil && one.spec.Ready.Socket != "" {
		if err := awaitSocket(one.spec.Ready.Socket, process.Done()); err != nil {
			return
		}
	}
	s.mu.Lock()
	current := one.process == process
	if current {
		one.status.State = Running
	}
	s.mu.Unlock()
	if current {
		one.becomeReady()
	}
}

// becomeReady is called by one goroutine at a time: of a service, at most one process lives.
func (one *service) becomeReady() {
	select {
	case <-one.ready:
	default:
		close(one.ready)
	}
}

// Stop ends the services in reverse order of their start: SIGTERM, and SIGKILL for one that is still there
// after the timeout.
func (s *Supervisor) Stop(timeout time.Duration) {
	s.mu.Lock()
	if s.stop == nil {
		s.stopping, s.stop = context.WithCancel(context.Background())
	}
	s.stop()
	ordered := slices.Clone(s.services)
	s.mu.Unlock()
	depth := depths(ordered)
	slices.SortStableFunc(ordered, func(a, b *service) int { return depth[b.spec.Name] - depth[a.spec.Name] })
	for _, one := range ordered {
		s.end(one, timeout)
	}
}

// depths tells for each service how many have to start one after the other before it.
func depths(all []*service) map[string]int {
	specs := map[string]Spec{}
	for _, one := range all {
		specs[one.spec.Name] = one.spec
	}
	depth := map[string]int{}
	var of func(name string) int
	of = func(name string) int {
		if known, ok := depth[name]; ok {
			return known
		}
		deepest := 0
		for _, before := range specs[name].After {
			deepest = max(deepest, of(before)+1)
		}
		depth[name] = deepest
		return deepest
	}
	for name := range specs {
		of(name)
	}
	return depth
}

func (s *Supervisor) end(one *service, timeout time.Duration) {
	s.mu.Lock()
	process := one.process
	s.mu.Unlock()
	if process != nil {
		_ = process.Signal(syscall.SIGTERM)
		limit := time.NewTimer(timeout)
		defer limit.Stop()
		select {
		case <-process.Done():
		case <-limit.C:
			s.Journal.Printf("service %s did not stop within %s and is killed", one.spec.Name, timeout)
			_ = process.Signal(syscall.SIGKILL)
			<-process.Done()
		}
	}
	<-one.ended
}
