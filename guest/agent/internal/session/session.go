// Package session serves one host after the other: first contact, then HTTP/2 until the stream ends.
package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/frame"
	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// Protocol is the version of agent.proto that this agent speaks.
const Protocol = 1

// Keeper holds what outlives one session.
type Keeper struct {
	Guest   *uniqueness.Guest
	Journal *journal.Journal
	Version string
	// Handler serves AgentService.
	Handler http.Handler
	// Answered is called after every first contact, once the host has its answer. May be nil.
	Answered func()
	// Ready is called once, after the first contact that was the first to succeed. May be nil.
	Ready func()
	ready sync.Once

	mu sync.Mutex
	// env is what the last Hello brought.
	env map[string]string
	// stranger: a resume failed halfway, so this guest is neither its template nor itself.
	stranger bool
	bootID   string
	marker   atomic.Pointer[[]byte]
}

// Marker is what a host that reconnects sends before its Hello: see agent.proto. Nil before the first
// contact.
func (k *Keeper) Marker() []byte {
	if marker := k.marker.Load(); marker != nil {
		return *marker
	}
	return nil
}

// mark is short for what it stands for, and as good as never part of anything else.
func mark(of []byte) []byte {
	sum := sha256.Sum256(of)
	return sum[:16]
}

// Environment returns what hooks and programs get from the host's last Hello, as KEY=VALUE.
func (k *Keeper) Environment() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	env := make([]string, 0, len(k.env))
	for key, value := range k.env {
		env = append(env, key+"="+value)
	}
	return env
}

// Forget drops what the last Hello brought: what a host gave to one machine is not to be in a snapshot of it.
// It gives it again when it reconnects.
func (k *Keeper) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.env = nil
}

// Serve holds one session on conn and closes it. An error says why it ended other than by the host's
// leaving.
func (k *Keeper) Serve(conn net.Conn) error {
	defer conn.Close()
	for {
		rehearsal, err := k.firstContact(conn)
		if errors.Is(err, errLeft) {
			return nil
		} else if err != nil {
			return err
		}
		if !rehearsal {
			break
		}
	}
	served, err := k.setClock(conn)
	if errors.Is(err, errLeft) {
		return nil
	} else if err != nil {
		return err
	}
	return k.serveHTTP(served)
}

// unmarked is a stream without the marker that it may begin with.
type unmarked struct {
	io.Reader
	marker []byte
}

func (u *unmarked) Read(p []byte) (int, error) {
	if u.marker == nil {
		return u.Reader.Read(p)
	}
	// A frame begins with its length, which no marker but one in 2^32 looks like.
	head := make([]byte, 4)
	if _, err := io.ReadFull(u.Reader, head); err != nil {
		return 0, err
	}
	marker := u.marker
	u.marker = nil
	if !bytes.Equal(head, marker[:len(head)]) {
		u.Reader = io.MultiReader(bytes.NewReader(head), u.Reader)
		return u.Reader.Read(p)
	}
	if _, err := io.CopyN(io.Discard, u.Reader, int64(len(marker)-len(head))); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// errLeft: the host left before it had said anything.
var errLeft = errors.New("the host left")

// firstContact answers one Hello, and says whether that was a rehearsal.
func (k *Keeper) firstContact(conn net.Conn) (rehearsal bool, failure error) {
	body, err := readFrame(&unmarked{Reader: conn, marker: k.Marker()})
	if err != nil {
		return false, err
	}
	heard := time.Now()
	hello := &agentv1.Hello{}
	reply := &agentv1.HelloReply{Protocol: Protocol, AgentVersion: k.Version}
	if err := proto.Unmarshal(body, hello); err != nil {
		reply.Error = &agentv1.AgentError{Code: "protocol", Message: "the first frame is no Hello: " + err.Error()}
	} else {
		reply.Error = k.apply(hello, reply)
	}
	if k.bootID == "" {
		id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
		k.bootID = strings.TrimSpace(string(id))
	}
	reply.BootId = k.bootID
	if kind := hello.Kind; kind == agentv1.HelloKind_HELLO_KIND_BOOT || kind == agentv1.HelloKind_HELLO_KIND_RESUME {
		reply.HostClockNs = hello.WallClockNs
	}
	answer, err := withTime(reply, heard)
	if err != nil {
		return false, err
	}
	if hello.Kind == agentv1.HelloKind_HELLO_KIND_RECONNECT && hello.GenerationId != "" {
		if _, err := conn.Write(mark(body)); err != nil {
			return false, fmt.Errorf("first contact: %w", err)
		}
	}
	if err := frame.Write(conn, answer); err != nil {
		return false, fmt.Errorf("first contact: %w", err)
	}
	if hello.Kind == agentv1.HelloKind_HELLO_KIND_REHEARSAL && reply.Error == nil {
		k.Guest.Rehearsed()
		return true, nil
	}
	k.Guest.Answered()
	if k.Answered != nil {
		k.Answered()
	}
	if reply.Error != nil {
		return false, fmt.Errorf("first contact: %s: %s", reply.Error.Code, reply.Error.Message)
	}
	if k.Ready != nil {
		k.ready.Do(k.Ready)
	}
	return false, nil
}

func readFrame(from io.Reader) ([]byte, error) {
	body, err := frame.Read(from)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errLeft
	} else if err != nil {
		return nil, fmt.Errorf("first contact: %w", err)
	}
	return body, nil
}

// withTime encodes a reply with what its host needs to compare the clocks, as late as possible.
func withTime(reply *agentv1.HelloReply, heard time.Time) ([]byte, error) {
	now := time.Now()
	reply.WallClockNs = now.UnixNano()
	reply.HandlingUs = uint32(min(now.Sub(heard).Microseconds(), math.MaxUint32))
	return proto.Marshal(reply)
}

// preface is what HTTP/2 begins with (RFC 9113, section 3.4). As the length of a frame it would be far too large.
var preface = []byte("PRI ")

// setClock moves the clock as the host asks, until HTTP/2 begins. It returns the connection as it is then.
func (k *Keeper) setClock(conn net.Conn) (net.Conn, error) {
	for {
		head := make([]byte, len(preface))
		if _, err := io.ReadFull(conn, head); err != nil {
			return nil, errLeft
		}
		if bytes.Equal(head, preface) {
			return &resumed{Conn: conn, head: head}, nil
		}
		body, err := readFrame(io.MultiReader(bytes.NewReader(head), conn))
		if err != nil {
			return nil, err
		}
		heard := time.Now()
		hello := &agentv1.Hello{}
		reply := &agentv1.HelloReply{Protocol: Protocol, AgentVersion: k.Version}
		if err := proto.Unmarshal(body, hello); err != nil || hello.Kind != agentv1.HelloKind_HELLO_KIND_CLOCK {
			reply.Error = &agentv1.AgentError{Code: "protocol", Message: "first contact was made before"}
		} else {
			reply.Error = k.Guest.ShiftClock(time.Duration(hello.ClockShiftNs))
		}
		reply.HostClockNs = hello.WallClockNs
		answer, err := withTime(reply, heard)
		if err != nil {
			return nil, err
		}
		if err := frame.Write(conn, answer); err != nil {
			return nil, fmt.Errorf("first contact: %w", err)
		}
		if reply.Error != nil {
			return nil, fmt.Errorf("first contact: %s: %s", reply.Error.Code, reply.Error.Message)
		}
	}
}

// resumed is a connection of which the first bytes were read already.
type resumed struct {
	net.Conn
	head []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.head) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.head)
	r.head = r.head[n:]
	return n, nil
}

func (k *Keeper) apply(hello *agentv1.Hello, reply *agentv1.HelloReply) *agentv1.AgentError {
	if hello.Protocol != Protocol {
		return &agentv1.AgentError{Code: "protocol", Message: fmt.Sprintf("the host speaks protocol %d, this agent %d", hello.Protocol, Protocol)}
	}
	switch hello.Kind {
	case agentv1.HelloKind_HELLO_KIND_BOOT, agentv1.HelloKind_HELLO_KIND_RESUME:
		k.mu.Lock()
		k.env = hello.Env
		k.mu.Unlock()
		if hello.GenerationId != "" {
			marker := mark([]byte("sporelet reconnect " + hello.GenerationId))
			k.marker.Store(&marker)
		}
	case agentv1.HelloKind_HELLO_KIND_REHEARSAL:
		// From now on it is nobody, until a resume makes it somebody.
		k.stranger = true
	case agentv1.HelloKind_HELLO_KIND_RECONNECT:
		if k.stranger {
			return &agentv1.AgentError{Code: "identity", Message: "this guest failed to become unique; only a resume can follow"}
		}
		if len(hello.Env) > 0 {
			k.mu.Lock()
			k.env = hello.Env
			k.mu.Unlock()
		}
	default:
		return &agentv1.AgentError{Code: "protocol", Message: fmt.Sprintf("unknown kind of Hello: %d", hello.Kind)}
	}
	failure := k.Guest.Apply(hello, reply, func() []string {
		return append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=/root",
			"SPORELET_GENERATION_ID=" + hello.GenerationId,
			"SPORELET_HOSTNAME=" + hello.Hostname,
			"SPORELET_MACHINE_ID=" + hello.MachineId,
		}, k.Environment()...)
	})
	if hello.Kind == agentv1.HelloKind_HELLO_KIND_RESUME {
		k.stranger = failure != nil
	}
	return failure
}

// Flow control: windows large enough that one stream can keep the port busy while the host catches up.
const (
	streamWindow     = 4 << 20
	connectionWindow = 16 << 20
	frameBytes       = 64 << 10
	// streams at a time; more wait at the host.
	maxStreams = 1000
)

// leaveTimeout bounds how long calls of a host that has left may take to end; killing what they ran is
// immediate, only uninterruptible processes get here.
const leaveTimeout = 5 * time.Second

func (k *Keeper) serveHTTP(conn net.Conn) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var calls calls
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	listener := newSingle(conn)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !calls.begin() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			defer calls.end()
			k.Handler.ServeHTTP(w, r)
		}),
		Protocols:   &protocols,
		BaseContext: func(net.Listener) context.Context { return ctx },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              frameBytes,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connectionWindow,
		},
	}
	err := server.Serve(listener)
	leave()
	conn.Close()
	limit := time.NewTimer(leaveTimeout)
	defer limit.Stop()
	select {
	case <-calls.ended():
	case <-limit.C:
		k.Journal.Printf("calls of the last host are still ending")
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// calls counts those of one host. A handler may be started when its host is known to have left; it does not begin.
type calls struct {
	mu    sync.Mutex
	count int
	// over is closed by the last call to end; nil while calls may begin.
	over chan struct{}
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return false
	}
	c.count++
	return true
}

func (c *calls) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count--
	if c.over != nil && c.count == 0 {
		close(c.over)
	}
}

// ended lets no call begin any more, and returns what is closed when none is left.
func (c *calls) ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = make(chan struct{})
	if c.count == 0 {
		close(c.over)
	}
	return c.over
}

// Release gives memory back that the session used: called before a freeze, it is not in the snapshot.
func Release() { debug.FreeOSMemory() }

// single is a listener for one connection; it ends when that one is closed.
type single struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func newSingle(conn net.Conn) *single {
	s := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{}), addr: conn.LocalAddr()}
	s.conn <- &closeTold{Conn: conn, tell: s.Close}
	return s
}

// closeTold is a connection that tells when it is closed; the server does that when the host has left.
type closeTold struct {
	net.Conn
	tell func() error
}

func (c *closeTold) Close() error {
	err := c.Conn.Close()
	_ = c.tell()
	return err
}

func (s *single) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conn:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *single) Addr() net.Addr { return s.addr }
