package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ErrMalformed says that the stream is no tar, or ends inside one.
var ErrMalformed = errors.New("malformed tar")

// EscapeError is an entry that would reach beyond the directory.
type EscapeError struct{ Name string }

func (e *EscapeError) Error() string {
	return fmt.Sprintf("the entry %q would leave the directory", e.Name)
}

// Unpack unpacks a tar below directory. What is there already is replaced, except that directories, and
// symbolic links to directories, are kept. An entry whose name, or the links in it, lead out of directory is
// refused. Owners are kept when running as root.
func Unpack(ctx context.Context, from io.Reader, directory string) error {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, privileged: os.Getuid() == 0, buffer: make([]byte, 64<<10)}
	defer u.closeParent()
	stream := &ended{Reader: from}
	source := tar.NewReader(stream)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := source.Next()
		if err == io.EOF && stream.ended {
			return fmt.Errorf("%w: it ends without its end-of-archive blocks", ErrMalformed)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return malformed(err)
		}
		if err := u.entry(header, source); err != nil {
			return explain(header.Name, err)
		}
	}
	// The padding behind the end belongs to the tar; a host may still be sending it.
	if _, err := io.Copy(io.Discard, from); err != nil {
		return err
	}
	return u.finishDirectories()
}

// ended is a stream that remembers its end: the tar reader stops before it at a proper end of archive.
type ended struct {
	io.Reader
	ended bool
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.ended = e.ended || err == io.EOF
	return n, err
}

func malformed(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// explain words os.Root's refusal, which has no exported error.
func explain(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && path.Err != nil && path.Err.Error() == "path escapes from parent" {
		return &EscapeError{Name: name}
	}
	var escape *EscapeError
	if errors.As(err, &escape) {
		return err
	}
	return fmt.Errorf("%s: %w", name, malformed(err))
}

type unpacker struct {
	root       *os.Root
	privileged bool
	buffer     []byte
	// parent is the directory of the last entry, which is most often that of the next one too.
	parent     *os.File
	parentName string
	// directories get their mode and time last: writing into them needs the one and changes the other.
	directories []directory
}

type directory struct {
	name   string
	header *tar.Header
}

// entry makes one file. Its directory is looked up through os.Root, which follows no link out of the
// tree; the last element of its name is then never followed at all.
func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := filepath.Clean(header.Name)
	if !filepath.IsLocal(name) {
		return &EscapeError{Name: header.Name}
	}
	if name == "." {
		if header.Typeflag == tar.TypeDir {
			u.directories = append(u.directories, directory{name, header})
		}
		return nil
	}
	parent, err := u.open(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	if header.Typeflag == tar.TypeDir {
		u.directories = append(u.directories, directory{name, header})
		return u.makeDirectory(parent, name, base)
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil && err != unix.ENOENT {
		return err
	}
	mode := uint32(header.Mode & 0o7777)
	switch header.Typeflag {
	case tar.TypeReg:
		return u.makeFile(parent, base, header, content)
	case tar.TypeLink:
		return u.makeLink(parent, base, header)
	case tar.TypeSymlink:
		err = unix.Symlinkat(header.Linkname, parent, base)
	case tar.TypeFifo:
		err = unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		err = unix.Mknodat(parent, base, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))))
	case tar.TypeBlock:
		err = unix.Mknodat(parent, base, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))))
	default:
		return fmt.Errorf("%w: entries of type %q are unknown", ErrMalformed, header.Typeflag)
	}
	if err != nil {
		return err
	}
	if err := u.own(parent, base, header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, base, mode, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(parent, base, times(header), unix.AT_SYMLINK_NOFOLLOW)
}

// open returns the descriptor of a directory of the tree, made if need be.
func (u *unpacker) open(name string) (int, error) {
	if u.parent != nil && u.parentName == name {
		return int(u.parent.Fd()), nil
	}
	u.closeParent()
	parent, err := u.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.MkdirAll(name, 0o755); err != nil {
			return -1, err
		}
		parent, err = u.root.Open(name)
	}
	if err != nil {
		return -1, err
	}
	u.parent, u.parentName = parent, name
	return int(parent.Fd()), nil
}

func (u *unpacker) closeParent() {
	if u.parent != nil {
		_ = u.parent.Close()
		u.parent = nil
	}
}

func (u *unpacker) makeDirectory(parent int, name, base string) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if err != unix.EEXIST {
		return err
	}
	if info, err := u.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		return err
	}
	u.closeParent()
	return u.root.Mkdir(name, 0o700)
}

func (u *unpacker) makeFile(parent int, base string, header *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), base)
	defer file.Close()
	if _, err := io.CopyBuffer(onlyWriter{file}, onlyReader{content}, u.buffer); err != nil {
		return err
	}
	if err := u.own(parent, base, header); err != nil {
		return err
	}
	// After chown, which clears set-user-id.
	if err := unix.Fchmod(fd, uint32(header.Mode&0o7777)); err != nil {
		return err
	}
	return errors.Join(unix.UtimesNanoAt(parent, base, times(header), unix.AT_SYMLINK_NOFOLLOW), file.Close())
}

type onlyReader struct{ io.Reader }

// makeLink links to an earlier entry. Mode, owner and times are those of the target.
func (u *unpacker) makeLink(parent int, base string, header *tar.Header) error {
	target := filepath.Clean(header.Linkname)
	if !filepath.IsLocal(target) {
		return &EscapeError{Name: header.Name}
	}
	directory, err := u.root.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer directory.Close()
	return unix.Linkat(int(directory.Fd()), filepath.Base(target), parent, base, 0)
}

func (u *unpacker) own(parent int, base string, header *tar.Header) error {
	if !u.privileged {
		return nil
	}
	return unix.Fchownat(parent, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) finishDirectories() error {
	for _, made := range slices.Backward(u.directories) {
		file, err := u.root.Open(made.name)
		if err != nil {
			return explain(made.name, err)
		}
		fd := int(file.Fd())
		if u.privileged {
			err = unix.Fchown(fd, made.header.Uid, made.header.Gid)
		}
		at := times(made.header)
		err = errors.Join(err, unix.Fchmod(fd, uint32(made.header.Mode&0o7777)),
			unix.UtimesNanoAt(fd, "", at, unix.AT_EMPTY_PATH))
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("%s: %w", made.name, err)
		}
	}
	return nil
}

// times are access and modification time, both the entry's modification time unless it has the other too.
func times(header *tar.Header) []unix.Timespec {
	access := header.AccessTime
	if access.IsZero() {
		access = header.ModTime
	}
	return []unix.Timespec{spec(access), spec(header.ModTime)}
}

func spec(at time.Time) unix.Timespec { return unix.NsecToTimespec(at.UnixNano()) }
