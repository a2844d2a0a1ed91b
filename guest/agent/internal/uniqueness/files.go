package uniqueness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sporelet.ai/guest/agent/internal/hooks"
)

// identityFiles are what first contact writes.
var identityFiles = []string{"/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/resolv.conf", GenerationFile}

// prepared is what a clone finds done.
type prepared struct {
	// files are open and in the page cache.
	files map[string]*preparedFile
	// hooks of after-resume.d.
	hooks []string
	// hostKeys are the files of SSH host keys.
	hostKeys []string
	// next is what the next generation ends with.
	next *generationEnd
}

// preparedFile is a file that is open for writing, with what it holds.
type preparedFile struct {
	fd      int
	content []byte
}

// Freeze stops all programs and leaves a clone little to do. When it fails everything is as before.
func (g *Guest) Freeze() error {
	if g.Programs != nil {
		if err := g.Programs.Freeze(); err != nil {
			return err
		}
	}
	if err := g.prepare(); err != nil {
		return errors.Join(err, g.Thaw())
	}
	return nil
}

// Thaw undoes Freeze, without a first contact.
func (g *Guest) Thaw() error {
	g.release()
	if g.Programs == nil {
		return nil
	}
	return g.Programs.Thaw()
}

func (g *Guest) prepare() error {
	g.release()
	g.prepared = &prepared{files: map[string]*preparedFile{}, hooks: g.resumeHooks(), hostKeys: g.hostKeys()}
	for _, path := range identityFiles {
		content, err := os.ReadFile(g.Root + path)
		if err != nil {
			continue
		}
		if fd, err := unix.Open(g.Root+path, unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			g.prepared.files[path] = &preparedFile{fd, content}
		}
	}
	next, err := newGenerationEnd(g.nextPlace())
	if err != nil {
		return err
	}
	g.prepared.next = next
	return g.Kernel.Prepare()
}

// Answered is called when a host was answered: what a clone needed is closed, because a guest that runs may replace
// its files.
func (g *Guest) Answered() { g.release() }

func (g *Guest) release() {
	if g.prepared != nil {
		for _, file := range g.prepared.files {
			_ = unix.Close(file.fd)
		}
		if g.prepared.next != nil {
			g.prepared.next.close()
		}
		g.prepared = nil
	}
}

func (g *Guest) resumeHooks() []string {
	if g.prepared != nil {
		return g.prepared.hooks
	}
	return hooks.List(g.Root + HookDirectory + "/after-resume.d")
}

func (g *Guest) file(path string) *preparedFile {
	if g.prepared == nil {
		return nil
	}
	return g.prepared.files[path]
}

func (g *Guest) read(path string) []byte {
	if file := g.file(path); file != nil {
		return file.content
	}
	content, _ := os.ReadFile(g.Root + path)
	return content
}

// write makes a file hold data. Nothing is synced, because a clone that dies during its first contact is
// thrown away.
func (g *Guest) write(path string, data []byte, mode os.FileMode) error {
	if file := g.file(path); file != nil {
		return file.write(path, data)
	}
	path = g.Root + path
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".sporelet"
	if err := os.WriteFile(temporary, data, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// writeInPlace is write for a file that programs may have open; it is not made anew.
func (g *Guest) writeInPlace(path string, data []byte, mode os.FileMode) error {
	if file := g.file(path); file != nil {
		return file.write(path, data)
	}
	path = g.Root + path
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	return (&preparedFile{int(file.Fd()), content}).write(path, data)
}

// write writes in place. A reader sees what one system call wrote at once; where the content becomes
// shorter it may see the old end behind the new for a moment, which is why generation ids and machine ids,
// whose length is fixed, are what to compare.
func (f *preparedFile) write(path string, data []byte) error {
	if bytes.Equal(f.content, data) {
		return nil
	}
	n, err := unix.Pwrite(f.fd, data, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if n < len(data) {
		return fmt.Errorf("write %s: %d of %d bytes", path, n, len(data))
	}
	if len(data) < len(f.content) {
		if err := unix.Ftruncate(f.fd, int64(len(data))); err != nil {
			return fmt.Errorf("truncate %s: %w", path, err)
		}
	}
	f.content = data
	return nil
}
