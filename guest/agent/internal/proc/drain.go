package proc

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Drain hands everything that arrives at a pipe or pty to sink, until its writers are gone. Once ended
// is closed it takes what has been written by then and returns, though a descendant in the background may
// still hold the other end. An error of sink ends it and is returned.
func Drain(file *os.File, ended <-chan struct{}, buffer []byte, sink func([]byte) error) error {
	returned := make(chan struct{})
	defer close(returned)
	go func() {
		select {
		case <-ended:
			_ = file.SetReadDeadline(time.Unix(1, 0))
		case <-returned:
		}
	}()
	for {
		n, err := file.Read(buffer)
		if n > 0 {
			if err := sink(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return takeRest(file, buffer, sink)
		case err != nil:
			// The end: EOF of a pipe, EIO of a pty.
			return nil
		}
	}
}

// restBytes bounds what is taken after the end, for the sake of a descendant that never stops writing:
// the largest size of a pipe that a process may ask for.
const restBytes = 1 << 20

// takeRest reads what is there without waiting.
func takeRest(file *os.File, buffer []byte, sink func([]byte) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	for taken := 0; taken < restBytes; {
		var n int
		var failure error
		if err := raw.Control(func(fd uintptr) {
			for {
				if n, failure = syscall.Read(int(fd), buffer); failure != syscall.EINTR {
					return
				}
			}
		}); err != nil {
			return err
		}
		if failure != nil || n <= 0 {
			return nil
		}
		if err := sink(buffer[:n]); err != nil {
			return err
		}
		taken += n
	}
	return nil
}
