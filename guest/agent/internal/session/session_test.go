package session

import (
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/frame"
	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// clock is a kernel that notes how its clock was moved.
type clock struct {
	uniqueness.DryRun
	shifts []time.Duration
}

func (c *clock) ShiftClock(by time.Duration) error {
	c.shifts = append(c.shifts, by)
	return nil
}

// host is the other end of a session.
type host struct {
	*testing.T
	conn  net.Conn
	ended chan error
}

func serve(t *testing.T, kernel uniqueness.Kernel) *host {
	t.Helper()
	keeper := &Keeper{
		Guest:   &uniqueness.Guest{Root: t.TempDir(), Kernel: kernel},
		Journal: journal.New(os.Stderr),
		Handler: http.NotFoundHandler(),
	}
	ours, theirs := net.Pipe()
	h := &host{t, ours, make(chan error, 1)}
	go func() { h.ended <- keeper.Serve(theirs) }()
	t.Cleanup(func() { ours.Close() })
	return h
}

func (h *host) say(hello *agentv1.Hello) *agentv1.HelloReply {
	h.Helper()
	hello.Protocol = Protocol
	body, _ := proto.Marshal(hello)
	go func() { _ = frame.Write(h.conn, body) }()
	answer, err := frame.Read(h.conn)
	if err != nil {
		h.Fatal(err)
	}
	reply := &agentv1.HelloReply{}
	if err := proto.Unmarshal(answer, reply); err != nil {
		h.Fatal(err)
	}
	return reply
}

func TestAHostMovesTheClockUntilItIsContent(t *testing.T) {
	kernel := &clock{}
	h := serve(t, kernel)
	boot := time.Now().UnixNano()
	reply := h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_BOOT, WallClockNs: boot})
	if reply.Error != nil || reply.HostClockNs != boot || reply.WallClockNs < boot {
		t.Fatalf("it answers %v", reply)
	}
	kernel.shifts = nil
	for n, by := range []time.Duration{0, -3 * time.Hour, time.Millisecond} {
		reply = h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_CLOCK, WallClockNs: int64(n + 1), ClockShiftNs: int64(by)})
		if reply.Error != nil || reply.HostClockNs != int64(n+1) {
			t.Fatalf("it answers %v", reply)
		}
	}
	// To move it by nothing is a question.
	if len(kernel.shifts) != 2 || kernel.shifts[0] != -3*time.Hour || kernel.shifts[1] != time.Millisecond {
		t.Fatalf("the clock was moved by %v", kernel.shifts)
	}
	go func() {
		_, _ = io.WriteString(h.conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	}()
	// A server's first frame is SETTINGS (RFC 9113, section 3.4).
	head := make([]byte, 9)
	if _, err := io.ReadFull(h.conn, head); err != nil || head[3] != 4 {
		t.Fatalf("HTTP/2 begins with %v, %v", head, err)
	}
}

func TestOnlyTheClockIsSetAfterFirstContact(t *testing.T) {
	h := serve(t, &clock{})
	h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_BOOT})
	reply := h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_BOOT})
	if reply.Error == nil || reply.Error.Code != "protocol" {
		t.Fatalf("it answers %v", reply)
	}
	if err := <-h.ended; err == nil {
		t.Fatal("the session goes on")
	}
}

func TestAClockIsNoFirstContact(t *testing.T) {
	h := serve(t, &clock{})
	if reply := h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_CLOCK}); reply.Error == nil {
		t.Fatal("a guest that nobody has made unique is used")
	}
}

func TestAHostThatLeavesAfterFirstContactEndsTheSession(t *testing.T) {
	h := serve(t, &clock{})
	h.say(&agentv1.Hello{Kind: agentv1.HelloKind_HELLO_KIND_BOOT})
	h.conn.Close()
	if err := <-h.ended; err != nil {
		t.Fatal(err)
	}
}
