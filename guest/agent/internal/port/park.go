package port

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A resumed guest finds its host's time waiting for it, but not how long ago that was written: between are the
// wake-up of the machine and the way to here, under software emulation 10 to 100 ms. The guest's monotonic clock
// stands still while it is frozen, so what it shows to have passed since the freeze has passed since the resume. The
// instant of the freeze is noticed by nobody; but a parked agent can look at its clock so often that the last time it
// did cannot have been long before.
const (
	// parkStep is how exactly the instant is known in the time in which a freeze usually comes, longStep later: a
	// guest that stays parked would be kept busy by nothing.
	parkStep, longStep = time.Millisecond, 100 * time.Millisecond
	usually            = 10 * time.Second
)

// Idle is the last instant at which nothing had come from the host yet, if the connection accepted last came to a
// parked agent; zero otherwise. It is at most a few milliseconds before the freeze.
func (l *Listener) Idle() time.Time { return l.idle }

// awaitParked waits for the first bytes of a host and looks at the clock meanwhile.
func (l *Listener) awaitParked() error {
	watch, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	defer unix.Close(watch)
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		// Edge-triggered: that no host is there is told once (EPOLLHUP), and then what changes.
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
		if failure = unix.EpollCtl(watch, unix.EPOLL_CTL_ADD, int(fd), &event); failure != nil {
			return
		}
		failure = l.readParked(watch, int(fd))
	})
	if err == nil {
		err = failure
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", l.path, err)
	}
	return nil
}

func (l *Listener) readParked(watch, fd int) error {
	began := time.Now()
	l.idle = began
	step := parkStep
	var events [1]unix.EpollEvent
	for {
		count, err := unix.EpollWait(watch, events[:], int(step.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return err
		}
		now := time.Now()
		n, err := syscall.Read(fd, l.buffer)
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			return err
		}
		if n > 0 {
			l.next = l.buffer[:n]
			return nil
		}
		// A host that is there and silent has woken us already: its words, which it wrote before, are on their way.
		if count <= 0 && err == nil {
			l.idle = now
		}
		if now.Sub(began) > usually {
			step = longStep
		}
	}
}
