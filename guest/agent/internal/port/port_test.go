package port

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A FIFO that is read behaves as a port does: 0 bytes while no writer is there, EAGAIN while one is silent.
// A page-sized write is one read, as a port's buffer is.
func fifo(t *testing.T, marker string) (l *Listener, dial func() *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l = &Listener{path: path, file: os.NewFile(uintptr(fd), path), away: true, buffer: make([]byte, readBytes)}
	l.Marker = func() []byte { return []byte(marker) }
	t.Cleanup(func() { l.file.Close() })
	return l, func() *os.File {
		host, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { host.Close() })
		return host
	}
}

type accepted struct {
	conn net.Conn
	err  error
}

func accept(l *Listener) chan accepted {
	result := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		result <- accepted{conn, err}
	}()
	return result
}

func take(t *testing.T, result chan accepted) net.Conn {
	t.Helper()
	got := <-result
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.conn
}

func send(t *testing.T, host *os.File, text string) {
	t.Helper()
	if _, err := host.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, conn net.Conn, bytes int) string {
	t.Helper()
	buffer := make([]byte, bytes)
	if _, err := io.ReadFull(conn, buffer); err != nil {
		t.Fatal(err)
	}
	return string(buffer)
}

func TestAConnectionThatIsClosedTwiceLeavesTheNextOneAlone(t *testing.T) {
	l, dial := fifo(t, "")
	first := accept(l)
	host := dial()
	send(t, host, "a")
	conn := take(t, first)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	host.Close()
	if err := l.awaitLeave(); err != nil {
		t.Fatal(err)
	}
	second := accept(l)
	next := dial()
	for range 100 {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-second:
			t.Fatalf("accepted before a host sent something: %v", got.err)
		case <-time.After(time.Millisecond):
		}
	}
	send(t, next, "b")
	if text := read(t, take(t, second), 1); text != "b" {
		t.Fatalf("the next host sent b, not %q", text)
	}
}

func TestAHostIsAcceptedWhenItSendsSomething(t *testing.T) {
	l, dial := fifo(t, "")
	result := accept(l)
	host := dial()
	send(t, host, "hello")
	conn := take(t, result)
	send(t, host, " world")
	if got := read(t, conn, 11); got != "hello world" {
		t.Fatalf("got %q", got)
	}
	host.Close()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the host's leaving gives %v", err)
	}
}

func TestAHostThatComesAndGoesSilentlyIsNoConnection(t *testing.T) {
	l, dial := fifo(t, "")
	result := accept(l)
	dial().Close()
	host := dial()
	send(t, host, "x")
	if got := read(t, take(t, result), 1); got != "x" {
		t.Fatalf("got %q", got)
	}
}

func TestWhatALastHostLeftUnreadIsSkipped(t *testing.T) {
	l, dial := fifo(t, "")
	result := accept(l)
	first := dial()
	send(t, first, "first")
	conn := take(t, result)
	send(t, first, " and what nobody reads")
	conn.Close()
	left := make(chan error)
	go func() { left <- l.awaitLeave() }()
	first.Close()
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	result = accept(l)
	second := dial()
	send(t, second, "second")
	if got := read(t, take(t, result), 6); got != "second" {
		t.Fatalf("got %q", got)
	}
}

func TestAMarkerEndsAConnectionWhoseEndWasNotSeen(t *testing.T) {
	l, dial := fifo(t, "MARK")
	result := accept(l)
	first := dial()
	send(t, first, "a")
	conn := take(t, result)
	read(t, conn, 1)
	// Both are there for a moment, so that the port never reports a gap.
	second := dial()
	first.Close()
	send(t, second, "MARKb")
	if _, err := conn.Read(make([]byte, 10)); err != io.EOF {
		t.Fatalf("the marker gives %v", err)
	}
	if got := read(t, take(t, accept(l)), 5); got != "MARKb" {
		t.Fatalf("got %q", got)
	}
}

func TestAMarkerEndsTheSkipping(t *testing.T) {
	l, dial := fifo(t, "MARK")
	result := accept(l)
	first := dial()
	send(t, first, "a")
	conn := take(t, result)
	send(t, first, "unread MARK")
	second := dial()
	conn.Close()
	left := make(chan error)
	go func() { left <- l.awaitLeave() }()
	drained(t, l)
	first.Close()
	send(t, second, "MARKb")
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	if got := read(t, take(t, accept(l)), 5); got != "MARKb" {
		t.Fatalf("got %q", got)
	}
}

// drained returns once nothing waits to be read.
func drained(t *testing.T, l *Listener) {
	t.Helper()
	raw, err := l.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for {
		waiting := 0
		if err := raw.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if waiting == 0 {
			return
		}
		runtime.Gosched()
	}
}

func TestClosingAConnectionEndsAReadUnderWay(t *testing.T) {
	l, dial := fifo(t, "")
	result := accept(l)
	host := dial()
	send(t, host, "a")
	conn := take(t, result)
	read(t, conn, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	conn.Close()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("a closed connection still sets deadlines of the port: %v", err)
	}
}

func TestAPortIsFoundByItsName(t *testing.T) {
	class := t.TempDir()
	for port, name := range map[string]string{"vport1p1": "org.other\n", "vport2p3": "agent\n"} {
		os.Mkdir(filepath.Join(class, port), 0o755)
		os.WriteFile(filepath.Join(class, port, "name"), []byte(name), 0o644)
	}
	if got := lookup(class, "agent"); got != "/dev/vport2p3" {
		t.Fatalf("got %q", got)
	}
	if got := lookup(class, "none"); got != "" {
		t.Fatalf("got %q", got)
	}
}

func TestAParkedAgentKnowsWhenNothingHadCome(t *testing.T) {
	l, dial := fifo(t, "")
	// As Reopen leaves it; a FIFO that is opened as a port is would be its own host.
	l.parked = true
	before := time.Now()
	result := accept(l)
	host := dial()
	send(t, host, "hello")
	conn := take(t, result)
	if got := read(t, conn, 5); got != "hello" {
		t.Fatalf("it read %q", got)
	}
	if idle := l.Idle(); idle.Before(before) || idle.After(time.Now()) {
		t.Fatalf("it was idle at %v, not after %v", idle, before)
	}
	_ = conn.Close()
	_ = host.Close()
	// Without a marker a host that comes before the last one was seen to leave would be taken for it.
	if err := l.awaitLeave(); err != nil {
		t.Fatal(err)
	}
	result = accept(l)
	send(t, dial(), "again")
	_ = take(t, result)
	if idle := l.Idle(); !idle.IsZero() {
		t.Fatalf("an agent that was not parked was idle at %v", idle)
	}
}

func TestAParkedAgentDoesNotCountAsIdleWhileASilentHostIsThere(t *testing.T) {
	l, dial := fifo(t, "")
	l.parked = true
	result := accept(l)
	host := dial()
	came := time.Now()
	// Longer than many looks at the clock.
	time.Sleep(50 * time.Millisecond)
	send(t, host, "hello")
	_ = take(t, result)
	if idle := l.Idle(); idle.After(came.Add(5 * time.Millisecond)) {
		t.Fatalf("it was idle %v after the host had come", idle.Sub(came))
	}
}
