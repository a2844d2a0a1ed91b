// Package journal keeps what the agent logs: the last part in memory for AgentService.Logs, all of it in
// a file once there is a root file system to hold one, and boot messages on the console.
package journal

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// keepBytes is how much stays in memory, up to twice that: enough for a boot and its services' comings and goings.
const keepBytes = 128 << 10

// Journal is safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	kept    []byte
	written int64
	changed chan struct{}
	console io.Writer
	file    *os.File
}

// New makes a journal that also writes to console, which may be nil.
func New(console io.Writer) *Journal {
	return &Journal{console: console, changed: make(chan struct{})}
}

// Printf adds a line with a time stamp.
func (j *Journal) Printf(format string, args ...any) {
	j.print(j.console, format, args...)
}

// Quietf is Printf without the console, which costs a VM exit per byte: for whatever happens after a
// resume.
func (j *Journal) Quietf(format string, args ...any) {
	j.print(nil, format, args...)
}

func (j *Journal) print(console io.Writer, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	line := []byte(time.Now().UTC().Format("2006-01-02T15:04:05.000Z") + " " + text + "\n")
	j.mu.Lock()
	defer j.mu.Unlock()
	if console != nil {
		fmt.Fprintf(console, "sporelet: %s\n", text)
	}
	if j.file != nil {
		_, _ = j.file.Write(line)
	}
	j.kept = append(j.kept, line...)
	// Cut seldom: each cut copies what is kept.
	if len(j.kept) > 2*keepBytes {
		j.kept = append([]byte(nil), j.kept[len(j.kept)-keepBytes:]...)
	}
	j.written += int64(len(line))
	close(j.changed)
	j.changed = make(chan struct{})
}

// OpenFile copies what was logged so far to a file, and everything that comes.
func (j *Journal) OpenFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = file.Write(j.kept)
	j.file = file
	return nil
}

// CloseFile lets go of the file, so that its file system can be unmounted.
func (j *Journal) CloseFile() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}

// From returns what was logged at or after position (0: all that is kept), the position behind it, and
// a channel that is closed when there is more.
func (j *Journal) From(position int64) (text []byte, next int64, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	start := j.written - int64(len(j.kept))
	if position < start {
		position = start
	}
	return append([]byte(nil), j.kept[position-start:]...), j.written, j.changed
}
