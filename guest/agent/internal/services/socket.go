package services

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

var errEnded = errors.New("the service ended first")

// awaitSocket returns once a Unix socket accepts connections. The file's appearance is told by inotify;
// between bind and listen, which nothing tells, it is tried again a few times.
func awaitSocket(path string, ended <-chan struct{}) error {
	for {
		changed, closeWatch, err := watch(path)
		if err != nil {
			return err
		}
		reachable := dial(path, ended)
		if reachable {
			closeWatch()
			return nil
		}
		select {
		case <-changed:
			closeWatch()
		case <-ended:
			closeWatch()
			return errEnded
		}
	}
}

// listenPause and listenTries cover the moment between bind and listen of a slow service.
const (
	listenPause = 10 * time.Millisecond
	listenTries = 100
)

func dial(path string, ended <-chan struct{}) bool {
	for range listenTries {
		connection, err := net.Dial("unix", path)
		if err == nil {
			_ = connection.Close()
			return true
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return false
		}
		select {
		case <-time.After(listenPause):
		case <-ended:
			return false
		}
	}
	return false
}

// watch tells the next change in the directory of a path, or in the nearest one above that exists.
func watch(path string) (changed <-chan struct{}, stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), "inotify")
	if err := watchNearest(fd, filepath.Dir(path)); err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = file.Read(make([]byte, 4096))
	}()
	return told, func() { _ = file.Close() }, nil
}

// watchNearest watches a directory, or the nearest one above that exists. If the next one down appeared
// while it was looked for, it looks again.
func watchNearest(fd int, wanted string) error {
	const events = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ATTRIB | unix.IN_DELETE_SELF
	directory, missing := wanted, ""
	for {
		_, err := unix.InotifyAddWatch(fd, directory, events)
		switch {
		case errors.Is(err, unix.ENOENT) && directory != "/":
			directory, missing = filepath.Dir(directory), directory
		case err != nil:
			return err
		case missing == "":
			return nil
		default:
			if _, err := os.Stat(missing); err != nil {
				return nil
			}
			directory, missing = wanted, ""
		}
	}
}
