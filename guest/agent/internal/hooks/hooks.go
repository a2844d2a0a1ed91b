// Package hooks runs the executables of a hook directory, one after the other.
package hooks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sporelet.ai/guest/agent/internal/proc"
)

// DefaultTimeout is the limit for one hook when the host names none.
const DefaultTimeout = 10 * time.Second

// outputBytes is how much of a failed hook's output is kept: its end.
const outputBytes = 64 << 10

// Error says which hook failed and how.
type Error struct {
	Hook     string
	Reason   string
	TimedOut bool
	Output   string
}

func (e *Error) Error() string { return e.Hook + " " + e.Reason }

// List returns the executable files of a directory in lexical order; none when there is no directory.
func List(directory string) []string {
	entries, _ := os.ReadDir(directory)
	var hooks []string
	for _, entry := range entries {
		path := filepath.Join(directory, entry.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			hooks = append(hooks, path)
		}
	}
	slices.Sort(hooks)
	return hooks
}

// Run runs hooks in the order given and stops at the first that fails or outlives the limit, whose
// process group is killed. timeout 0 means DefaultTimeout.
func Run(reaper *proc.Reaper, hooks, env []string, timeout time.Duration) *Error {
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	for _, hook := range hooks {
		if err := run(reaper, hook, env, timeout); err != nil {
			return err
		}
	}
	return nil
}

func run(reaper *proc.Reaper, hook string, env []string, timeout time.Duration) *Error {
	read, write, err := os.Pipe()
	if err != nil {
		return &Error{Hook: hook, Reason: "could not be started: " + err.Error()}
	}
	defer read.Close()
	process, err := reaper.Start(context.Background(), &exec.Cmd{Path: hook, Args: []string{hook}, Env: env, Dir: "/", Stdout: write, Stderr: write})
	write.Close()
	if err != nil {
		return &Error{Hook: hook, Reason: "could not be started: " + err.Error()}
	}
	var output []byte
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = proc.Drain(read, process.Done(), make([]byte, 16<<10), func(part []byte) error {
			output = append(output, part...)
			if extra := len(output) - outputBytes; extra > 0 {
				output = append(output[:0], output[extra:]...)
			}
			return nil
		})
	}()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	timedOut := false
	select {
	case <-process.Done():
	case <-limit.C:
		timedOut = true
		_ = process.Signal(syscall.SIGKILL)
		<-process.Done()
	}
	<-drained
	code, signal := process.Result()
	switch {
	case timedOut:
		return &Error{Hook: hook, Reason: fmt.Sprintf("ran longer than %s", timeout), TimedOut: true, Output: string(output)}
	case signal != 0:
		return &Error{Hook: hook, Reason: fmt.Sprintf("was ended by signal %d", signal), Output: string(output)}
	case code != 0:
		return &Error{Hook: hook, Reason: fmt.Sprintf("exited with code %d", code), Output: string(output)}
	}
	return nil
}
