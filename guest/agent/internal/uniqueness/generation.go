package uniqueness

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// GenerationFile holds the identifier of this instance of the machine. It is always written in place, 37 bytes by
// one system call, so that what has it mapped, or watches it by inotify (IN_MODIFY), sees the new one.
const GenerationFile = "/run/sporelet/generation-id"

// NextGenerationFile is a FIFO that never holds anything and comes to its end when the next generation begins: a
// program that waits for that reads it. In its place there is then another one.
const NextGenerationFile = "/run/sporelet/next-generation"

// generationEnd is a FIFO that the agent alone has open for writing. Until that is closed, a read of it waits.
type generationEnd struct{ fd int }

// newGenerationEnd makes the FIFO at a place of its own: nobody can wait for it yet.
func newGenerationEnd(place string) (*generationEnd, error) {
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mkfifo(place, 0o444); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("make %s: %w", place, err)
	}
	// For both, because to open it for writing alone is refused as long as nobody reads (fifo(7)).
	fd, err := unix.Open(place, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	return &generationEnd{fd}, nil
}

func (e *generationEnd) close() { _ = unix.Close(e.fd) }

func (g *Guest) nextPlace() string { return g.Root + NextGenerationFile + ".sporelet" }

// setGeneration writes the identifier. Those that wait are told by tellGeneration.
func (g *Guest) setGeneration(id string) error {
	g.untold = true
	return g.writeInPlace(GenerationFile, []byte(id+"\n"), 0o444)
}

// tellGeneration wakes those that wait for the next generation, once the identifier is written and before programs go
// on: who waits is told in every clone that becomes ready. Whoever must not be late by a single instruction looks at the
// identifier.
func (g *Guest) tellGeneration() error {
	if !g.untold {
		return nil
	}
	g.untold = false
	var next *generationEnd
	if g.prepared != nil {
		next, g.prepared.next = g.prepared.next, nil
	}
	if next == nil {
		var err error
		if next, err = newGenerationEnd(g.nextPlace()); err != nil {
			return err
		}
	}
	if err := unix.Rename(g.nextPlace(), g.Root+NextGenerationFile); err != nil {
		next.close()
		return fmt.Errorf("rename to %s: %w", NextGenerationFile, err)
	}
	if g.current != nil {
		g.current.close()
	}
	g.current = next
	return nil
}
