package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// absolute makes a path of the host's one of the guest's: relative ones begin at /.
func absolute(path string) (string, error) {
	if path == "" {
		return "", invalid("the path is empty")
	}
	return filepath.Join("/", path), nil
}

// Stat describes one file.
func (s *Server) Stat(_ context.Context, request *agentv1.StatRequest) (*agentv1.FileInfo, error) {
	path, err := absolute(request.Path)
	if err != nil {
		return nil, err
	}
	info, err := describe(path, request.FollowSymlinks)
	return info, wireError(path, err)
}

func describe(path string, follow bool) (*agentv1.FileInfo, error) {
	var stat unix.Stat_t
	lookup := unix.Lstat
	if follow {
		lookup = unix.Stat
	}
	if err := lookup(path, &stat); err != nil {
		return nil, err
	}
	info := &agentv1.FileInfo{
		Path: path, Size: uint64(stat.Size), Mode: stat.Mode, Uid: stat.Uid, Gid: stat.Gid,
		ModifiedNs: stat.Mtim.Nano(),
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		info.LinkTarget, _ = os.Readlink(path)
	}
	return info, nil
}

// List describes the entries of a directory, sorted by name.
func (s *Server) List(_ context.Context, request *agentv1.ListRequest, stream *connect.ServerStream[agentv1.FileInfo]) error {
	path, err := absolute(request.Path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return wireError(path, err)
	}
	for _, entry := range entries {
		info, err := describe(filepath.Join(path, entry.Name()), false)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return wireError(filepath.Join(path, entry.Name()), err)
		}
		if err := stream.Send(info); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a file, or with recursive a tree.
func (s *Server) Remove(_ context.Context, request *agentv1.RemoveRequest) (*agentv1.Empty, error) {
	path, err := absolute(request.Path)
	if err != nil {
		return nil, err
	}
	if path == "/" {
		return nil, invalid("refusing to remove /")
	}
	if _, err := os.Lstat(path); err != nil {
		return nil, wireError(path, err)
	}
	remove := os.Remove
	if request.Recursive {
		remove = os.RemoveAll
	}
	return &agentv1.Empty{}, wireError(path, remove(path))
}

// ReadFile sends a part of a file.
func (s *Server) ReadFile(_ context.Context, request *agentv1.ReadFileRequest, stream *connect.ServerStream[agentv1.Chunk]) error {
	path, err := absolute(request.Path)
	if err != nil {
		return err
	}
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return wireError(path, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return wireError(path, err)
	} else if info.IsDir() {
		return wireError(path, unix.EISDIR)
	}
	if request.Offset > 0 {
		if _, err := file.Seek(int64(request.Offset), io.SeekStart); err != nil {
			return wireError(path, err)
		}
	}
	var source io.Reader = file
	if request.Length > 0 {
		source = io.LimitReader(file, int64(request.Length))
	}
	return wireError(path, sendAll(source, stream.Send))
}

// sendAll sends a reader in chunks.
func sendAll(source io.Reader, send func(*agentv1.Chunk) error) error {
	writer := chunkWriter(send)
	_, err := io.CopyBuffer(writer, onlyReader{source}, make([]byte, chunkBytes))
	return err
}

type onlyReader struct{ io.Reader }

// chunkWriter sends each write as one message.
type chunkWriter func(*agentv1.Chunk) error

func (send chunkWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(len(rest), chunkBytes)]
		if err := send(&agentv1.Chunk{Data: part}); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[len(part):]
	}
	return len(p), nil
}

// WriteFile writes a file beside its place, syncs it and renames it.
func (s *Server) WriteFile(_ context.Context, stream *connect.ClientStream[agentv1.WriteFileRequest]) (*agentv1.FileInfo, error) {
	if !stream.Receive() {
		return nil, errors.Join(stream.Err(), invalid("the call ended before it began"))
	}
	start := stream.Msg().GetStart()
	if start == nil {
		return nil, invalid("the first message does not name a file")
	}
	path, err := absolute(start.Path)
	if err != nil {
		return nil, err
	}
	if start.MakeParents {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, wireError(path, err)
		}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, wireError(path, unix.EISDIR)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".sporelet-*")
	if err != nil {
		return nil, wireError(path, err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	complete := false
	for stream.Receive() && !complete {
		_, complete = stream.Msg().Request.(*agentv1.WriteFileRequest_End)
		if _, err := file.Write(stream.Msg().GetData()); err != nil {
			return nil, wireError(path, err)
		}
	}
	// A call that the host gave up must leave the old file.
	if !complete {
		return nil, errors.Join(stream.Err(), connect.NewError(connect.CodeAborted, errors.New(path+": the call ended before the file did")))
	}
	if err := finish(file, start, path); err != nil {
		return nil, wireError(path, err)
	}
	info, err := describe(path, false)
	return info, wireError(path, err)
}

func finish(file *os.File, start *agentv1.WriteFileStart, path string) error {
	mode := start.Mode & 0o7777
	if mode == 0 {
		mode = 0o644
	}
	if err := unix.Fchown(int(file.Fd()), int(start.Uid), int(start.Gid)); err != nil && !(os.Getuid() != 0 && errors.Is(err, unix.EPERM)) {
		return fmt.Errorf("set the owner: %w", err)
	}
	// After chown, which clears set-user-id.
	if err := unix.Fchmod(int(file.Fd()), mode); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
