// Package port is the agent's end of a virtio-serial port, as connections.
//
// A port is one stream that exists all the time; whether a host is at the other end shows as follows
// (linux: drivers/char/virtio_console.c). While it is away, read returns 0 bytes and poll reports
// EPOLLHUP; when it comes or goes the driver wakes the port's wait queue. Go's runtime watches files by
// edge-triggered epoll, so a goroutine that waits for a host costs nothing until one comes.
package port

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener accepts one connection after the other on a port.
//
// Data of different connections must not be mixed up. Usually the end of one shows as a read of 0 bytes
// before the next begins, and what is unread then is skipped. But when a host is replaced by another while
// the guest is paused or starved, both changes arrive as one and show nowhere. For this case a host that
// reconnects begins with a marker, and since QEMU never puts data of two connections into one buffer and a
// read never spans buffers (hw/char/virtio-serial-bus.c, drivers/char/virtio_console.c), a marker is
// always at the beginning of a read.
type Listener struct {
	path string
	file *os.File
	// Marker returns the bytes with which a reconnecting host begins; nil when there are none yet.
	Marker func() []byte
	// away: the last host is known to have left, or there was none yet.
	away bool
	// current is the connection accepted last.
	current *conn
	// next is what the next host has sent already, marker included.
	next []byte
	// buffer holds one read.
	buffer []byte
	// parked: reopened, and nobody came since; idle as told by Idle.
	parked bool
	idle   time.Time
}

// readBytes is how much one read can give at most: the driver's buffers are pages.
const readBytes = 4096

// Listen waits until the port of this name exists and opens it.
func Listen(name string, timeout time.Duration, marker func() []byte) (*Listener, error) {
	path, err := find(name, timeout)
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, Marker: marker, away: true, buffer: make([]byte, readBytes)}
	return l, l.open()
}

func (l *Listener) open() error {
	fd, err := unix.Open(l.path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", l.path, err)
	}
	l.file = os.NewFile(uintptr(fd), l.path)
	return nil
}

// Accept waits for the first bytes of a host.
func (l *Listener) Accept() (net.Conn, error) {
	if err := l.awaitLeave(); err != nil {
		return nil, err
	}
	l.idle = time.Time{}
	if l.parked {
		l.parked = false
		if err := l.awaitParked(); err != nil {
			return nil, err
		}
	}
	if len(l.next) == 0 {
		if err := l.await(func(n int) bool {
			l.next = l.buffer[:n]
			return n > 0
		}); err != nil {
			return nil, err
		}
	}
	l.current = &conn{listener: l, file: l.file, early: l.next}
	l.next, l.away = nil, false
	return l.current, nil
}

// closedTime is how long a reopened port stays closed: hosts look at it as well, because QEMU holds events back.
const closedTime = 5 * time.Millisecond

// Reopen waits until the last host has left, closes the port and opens it again. The next host sees that
// (QEMU: VSERPORT_CHANGE open=false, then open=true) and knows that the agent waits for it. What it sent
// before is lost.
func (l *Listener) Reopen() error {
	if err := l.awaitLeave(); err != nil {
		return err
	}
	_ = l.file.Close()
	l.next, l.parked = nil, true
	time.Sleep(closedTime)
	return l.open()
}

// awaitLeave skips what the last host has sent and waits until it has left.
func (l *Listener) awaitLeave() error {
	if l.current != nil {
		l.current.settle()
	}
	if err := l.file.SetDeadline(time.Time{}); err != nil || l.away {
		return err
	}
	return l.await(func(n int) bool {
		if l.marked(l.buffer[:n]) {
			l.next = l.buffer[:n]
		}
		l.away = n == 0 || len(l.next) > 0
		return l.away
	})
}

func (l *Listener) marked(data []byte) bool {
	marker := l.Marker()
	return len(marker) > 0 && bytes.HasPrefix(data, marker)
}

// await reads into the buffer whenever the port's state changed, until done, which gets the number of
// bytes: 0 means that no host is there.
func (l *Listener) await(done func(n int) bool) error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.Read(int(fd), l.buffer)
			switch {
			case err == syscall.EINTR:
			case err == syscall.EAGAIN:
				return false
			case err != nil:
				failure = err
				return true
			case done(n):
				return true
			case n == 0:
				return false
			}
		}
	})
	if err = errors.Join(err, failure); err != nil {
		return fmt.Errorf("read %s: %w", l.path, err)
	}
	return nil
}

// conn is one host's stay at the port. Closing it leaves the port open: the next host may be there
// already, and closing the port would discard what it has sent.
type conn struct {
	listener *Listener
	file     *os.File
	early    []byte
	// reading and writing are held during a read and a write.
	reading, writing sync.Mutex
	mu               sync.Mutex
	closed           bool
}

func (c *conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	if len(c.early) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// fill makes one read of the port. There is one reader at a time, so the listener's buffer is free.
func (c *conn) fill() error {
	l := c.listener
	if l.away {
		return io.EOF
	}
	n, err := c.file.Read(l.buffer)
	if l.marked(l.buffer[:n]) {
		l.next, err = l.buffer[:n], io.EOF
	}
	if errors.Is(err, io.EOF) {
		l.away = true
		return io.EOF
	}
	if err != nil {
		return err
	}
	c.early = l.buffer[:n]
	return nil
}

func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	return c.file.Write(p)
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// settle closes the connection and waits until nothing of it uses the port any more: a read or write that
// has not yet seen its deadline would otherwise go on when the next host's time begins.
func (c *conn) settle() {
	_ = c.Close()
	c.reading.Lock()
	c.writing.Lock()
	c.reading.Unlock()
	c.writing.Unlock()
}

// Close ends reads and writes that are under way by a deadline in the past. Only the first time: servers close twice,
// and the second time the port, which all connections share, may be the next host's already.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.file.SetDeadline(time.Unix(1, 0))
}

func (c *conn) SetDeadline(t time.Time) error      { return c.unlessClosed(c.file.SetDeadline, t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.unlessClosed(c.file.SetReadDeadline, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.unlessClosed(c.file.SetWriteDeadline, t) }

func (c *conn) unlessClosed(set func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return set(t)
}

func (c *conn) LocalAddr() net.Addr  { return address(c.file.Name()) }
func (c *conn) RemoteAddr() net.Addr { return address("host") }

type address string

func (address) Network() string  { return "virtio-serial" }
func (a address) String() string { return string(a) }

// find returns the device of the port with this name. The name comes from the host a moment after the
// device, and then the kernel sends a uevent.
func find(name string, timeout time.Duration) (string, error) {
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return "", fmt.Errorf("uevent socket: %w", err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return "", fmt.Errorf("uevent socket: %w", err)
	}
	deadline := time.Now().Add(timeout)
	for {
		if path := lookup("/sys/class/virtio-ports", name); path != "" {
			return path, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return "", fmt.Errorf("no virtio port named %s appeared within %s", name, timeout)
		}
		limit := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(events, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return "", err
		}
		var event [8192]byte
		if _, err := unix.Read(events, event[:]); err != nil && err != unix.EAGAIN && err != unix.EINTR && err != unix.ENOBUFS {
			return "", fmt.Errorf("uevent socket: %w", err)
		}
	}
}

func lookup(class, name string) string {
	names, _ := filepath.Glob(filepath.Join(class, "*", "name"))
	for _, path := range names {
		if found, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(found)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}
