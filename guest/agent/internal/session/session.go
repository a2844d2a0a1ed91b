// Package session serves one host after the other: first contact, then HTTP/2 until the stream ends.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
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
	// Ready is called after each first contact that succeeded.
	Ready func(kind agentv1.HelloKind)

	mu sync.Mutex
	// env is what the last Hello brought.
	env map[string]string
	// stranger: a resume failed halfway, so this guest is neither its template nor itself.
	stranger bool
	bootID   string
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

// Serve holds one session on conn and closes it. An error says why it ended other than by the host's
// leaving.
func (k *Keeper) Serve(conn net.Conn) error {
	defer conn.Close()
	if err := k.firstContact(conn); err != nil {
		return err
	}
	return k.serveHTTP(conn)
}

func (k *Keeper) firstContact(conn net.Conn) error {
	body, err := frame.Read(conn)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("first contact: %w", err)
	}
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
	reply.WallClockNs = time.Now().UnixNano()
	answer, err := proto.Marshal(reply)
	if err != nil {
		return err
	}
	if err := frame.Write(conn, answer); err != nil {
		return fmt.Errorf("first contact: %w", err)
	}
	if reply.Error != nil {
		return fmt.Errorf("first contact: %s: %s", reply.Error.Code, reply.Error.Message)
	}
	if k.Ready != nil {
		k.Ready(hello.Kind)
	}
	return nil
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
	case agentv1.HelloKind_HELLO_KIND_RECONNECT:
		if k.stranger {
			return &agentv1.AgentError{Code: "identity", Message: "this guest failed to become unique; only a resume can follow"}
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
	var calls sync.WaitGroup
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	listener := newSingle(conn)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			defer calls.Done()
			k.Handler.ServeHTTP(w, r)
		}),
		Protocols:   &protocols,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				listener.Close()
			}
		},
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
	ended := make(chan struct{})
	go func() {
		calls.Wait()
		close(ended)
	}()
	limit := time.NewTimer(leaveTimeout)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		k.Journal.Printf("calls of the last host are still ending")
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
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
	s.conn <- conn
	return s
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
