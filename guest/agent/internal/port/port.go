// Package port is the agent's end of a virtio-serial port, as connections.
//
// A port is one stream that exists all the time; whether a host is at the other end shows as follows
// (linux: drivers/char/virtio_console.c). While it is away, read returns 0 bytes and poll reports
// EPOLLHUP; when it comes or goes the driver wakes the port's wait queue. Go's runtime watches files by
// edge-triggered epoll, so a goroutine that waits for a host costs nothing until one comes.
package port

import (
	"errors"
	"fmt"
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
type Listener struct {
	path string
	file *os.File
}

// Listen waits until the port of this name exists and opens it.
func Listen(name string, timeout time.Duration) (*Listener, error) {
	path, err := find(name, timeout)
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path}
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
	if err := l.file.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, 4096)
	var n int
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, failure = syscall.Read(int(fd), buffer)
			switch {
			case failure == syscall.EINTR:
			case failure == syscall.EAGAIN, failure == nil && n == 0:
				n, failure = 0, nil
				return false
			default:
				return true
			}
		}
	})
	if err = errors.Join(err, failure); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.path, err)
	}
	return &conn{file: l.file, early: buffer[:n]}, nil
}

// Reopen closes the port and opens it again. The host sees that (QEMU: VSERPORT_CHANGE open=false, then
// open=true) and knows that the agent has let go of the last connection. What the host had sent and
// nobody read is lost, so the host must not be connected meanwhile.
func (l *Listener) Reopen() error {
	_ = l.file.Close()
	return l.open()
}

// conn is one host's stay at the port. Closing it leaves the port open: the next host may be there
// already, and closing the port would discard what it has sent.
type conn struct {
	file   *os.File
	early  []byte
	mu     sync.Mutex
	closed bool
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.file.Read(p)
}

func (c *conn) Write(p []byte) (int, error) { return c.file.Write(p) }

// Close ends reads and writes that are under way by a deadline in the past.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
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
