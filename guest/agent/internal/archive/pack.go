// Package archive packs and unpacks tars with what a file system keeps about a file: type,
// mode, owner, times, links, device numbers.
package archive

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Pack writes the file or tree at path as a PAX tar. Names begin with the last element of path ("." for
// the root). Hard links within the tree stay links; sockets, which mean nothing elsewhere, are left out.
func Pack(ctx context.Context, path string, to io.Writer) error {
	p := &packer{tar: tar.NewWriter(to), seen: map[inode]string{}, buffer: make([]byte, 64<<10)}
	base := filepath.Base(path)
	if base == "/" {
		base = "."
	}
	device, err := deviceOf(path)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		relative, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		own, err := p.add(file, filepath.Join(base, relative))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		// Like tar --one-file-system: /proc and its kind cannot be packed.
		if entry.IsDir() && own != device {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.tar.Close()
}

type inode struct{ device, number uint64 }

type packer struct {
	tar    *tar.Writer
	seen   map[inode]string
	buffer []byte
}

func deviceOf(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return 0, err
	}
	return stat.Dev, nil
}

// add writes one entry and returns the device that it is on.
func (p *packer) add(file, name string) (device uint64, err error) {
	var stat unix.Stat_t
	if err := unix.Lstat(file, &stat); err != nil {
		return 0, err
	}
	header := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(stat.Mode & 0o7777),
		Uid: int(stat.Uid), Gid: int(stat.Gid), ModTime: time.Unix(stat.Mtim.Unix()),
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if first, linked := p.seen[inode{stat.Dev, stat.Ino}]; linked {
			header.Typeflag, header.Linkname = tar.TypeLink, first
			break
		}
		if stat.Nlink > 1 {
			p.seen[inode{stat.Dev, stat.Ino}] = name
		}
		header.Typeflag, header.Size = tar.TypeReg, stat.Size
		return stat.Dev, p.addContent(file, header)
	case unix.S_IFDIR:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = os.Readlink(file); err != nil {
			return 0, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		header.Typeflag = tar.TypeChar
		if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
			header.Typeflag = tar.TypeBlock
		}
		header.Devmajor, header.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	case unix.S_IFIFO:
		header.Typeflag = tar.TypeFifo
	default:
		return stat.Dev, nil
	}
	return stat.Dev, p.tar.WriteHeader(header)
}

// addContent writes exactly as many bytes as the header says: a file that grows is cut, one that shrinks
// is filled up with zeros, as GNU tar does.
func (p *packer) addContent(file string, header *tar.Header) error {
	content, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	written, err := io.CopyBuffer(onlyWriter{p.tar}, io.LimitReader(content, header.Size), p.buffer)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(onlyWriter{p.tar}, io.LimitReader(zeros{}, header.Size-written), p.buffer)
	return err
}

type onlyWriter struct{ io.Writer }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
