// Package uniqueness makes a guest itself: clock, randomness, identity, network, hooks, in this order.
//
// A clone begins as a bitwise copy of its siblings. Until all of this has happened it must not be used,
// so every step fails closed. Programs stand still until all but the hooks is done: what they would draw
// before, others draw too. Hooks come after that, because they are programs and talk to others, and before
// the host is told that the guest is ready.
//
// Under software emulation each code path that runs for the first time in a
// clone is translated first: the steps are plain system calls, and files are written only where their
// content differs.
package uniqueness

import (
	"errors"
	"fmt"
	"time"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/hooks"
	"sporelet.ai/guest/agent/internal/proc"
)

// HookDirectory holds before-freeze.d and after-resume.d.
const HookDirectory = "/etc/sporelet/hooks"

// Guest is what gets an identity.
type Guest struct {
	// Root is put before every file name: "" in a guest, a directory in tests.
	Root   string
	Kernel Kernel
	Reaper *proc.Reaper
	// Programs are stopped for a freeze; nil where they are not ours to stop.
	Programs Programs
	// Idle is an instant shortly before the host's words came, zero when none is known. May be nil.
	Idle func() time.Time
	// rehearsed is when a rehearsal was answered; zero when the last first contact was none.
	rehearsed time.Time
	// prepared is what Prepare left for the next first contact, else nil.
	prepared *prepared
	// current ends with this generation; nil before the first.
	current *generationEnd
	// untold: the next generation has begun, and current has not ended yet.
	untold bool
}

// Kernel is the part that cannot be tried out on a developer's machine.
type Kernel interface {
	// ShiftClock moves the wall clock, forward or back.
	ShiftClock(by time.Duration) error
	AddEntropy(entropy []byte) error
	SetHostname(name string) error
	SetNetwork(mac, address, gateway string) error
	// HasNetwork tells whether the guest has a network interface.
	HasNetwork() bool
	// Prepare makes the next SetNetwork cheap if it asks for what is set now.
	Prepare() error
}

// Programs are all processes of the guest but the agent.
type Programs interface {
	// Freeze stops them all, or none.
	Freeze() error
	// Thaw lets them go on, if they are stopped.
	Thaw() error
}

// Failure is a step that did not succeed, as the host will be told.
type Failure struct{ *agentv1.AgentError }

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

func failed(code string, err error) *agentv1.AgentError {
	return &agentv1.AgentError{Code: code, Message: err.Error()}
}

// Tolerances for the clock. After a resume it is wrong by the age of the snapshot; when a host merely
// comes back, the time that its Hello waited to be read must not set the clock back.
const (
	resumeTolerance    = time.Millisecond
	reconnectTolerance = 500 * time.Millisecond
)

// Apply does what hello asks and notes in reply how long each step took. It stops at the first step
// that fails.
func (g *Guest) Apply(hello *agentv1.Hello, reply *agentv1.HelloReply, environment func() []string) *agentv1.AgentError {
	mark := time.Now()
	lap := func(us *uint32) {
		now := time.Now()
		*us = uint32(now.Sub(mark).Microseconds())
		mark = now
	}
	rehearsal := hello.Kind == agentv1.HelloKind_HELLO_KIND_REHEARSAL
	resume := rehearsal || hello.Kind == agentv1.HelloKind_HELLO_KIND_RESUME
	if hello.WallClockNs != 0 {
		tolerance := resumeTolerance
		if hello.Kind == agentv1.HelloKind_HELLO_KIND_RECONNECT {
			tolerance = reconnectTolerance
		}
		if err := g.setClock(hello, tolerance); err != nil {
			if hello.Kind == agentv1.HelloKind_HELLO_KIND_RECONNECT {
				err = errors.Join(err, g.Thaw()) // It is the same guest as before, whatever its clock.
			}
			return failed("clock", err)
		}
	} else if resume {
		return failed("clock", errors.New("the host sent no time"))
	}
	g.rehearsed = time.Time{}
	lap(&reply.ClockUs)
	if hello.Kind == agentv1.HelloKind_HELLO_KIND_RECONNECT {
		return g.thaw(lap, reply)
	}
	if err := g.entropy(hello.Entropy, resume); err != nil {
		return failed("entropy", err)
	}
	lap(&reply.EntropyUs)
	another := resume && g.isAnother(hello)
	if err := g.identity(hello, resume); err != nil {
		return failed("identity", err)
	}
	if another {
		if err := g.renewHostKeys(hello.Hostname); err != nil {
			return failed("identity", fmt.Errorf("SSH host keys: %w", err))
		}
	}
	lap(&reply.IdentityUs)
	if err := g.network(hello.Network, resume); err != nil {
		return failed("network", err)
	}
	lap(&reply.NetworkUs)
	if rehearsal {
		return nil
	}
	// They wake up when programs go on, not before.
	if err := g.tellGeneration(); err != nil {
		return failed("identity", fmt.Errorf("programs that wait for the next generation: %w", err))
	}
	if failure := g.thaw(lap, reply); failure != nil {
		return failure
	}
	if resume {
		timeout := time.Duration(hello.HookTimeoutMs) * time.Millisecond
		if list := g.resumeHooks(); len(list) > 0 {
			if err := hooks.Run(g.Reaper, list, environment(), timeout); err != nil {
				return HookError(err)
			}
		}
		lap(&reply.HooksUs)
	}
	return nil
}

// setClock sets the wall clock to the host's time, moved on by how long its words have waited for us, unless it is
// right within the tolerance. One look at our clocks is enough for both: what passes afterwards passes for all.
func (g *Guest) setClock(hello *agentv1.Hello, tolerance time.Duration) error {
	now := time.Now()
	host := time.Unix(0, hello.WallClockNs)
	idle := g.rehearsed
	if idle.IsZero() && g.Idle != nil {
		idle = g.Idle()
	}
	if !idle.IsZero() {
		host = host.Add(now.Sub(idle))
	}
	// Without Round the monotonic clock would be compared.
	if by := host.Sub(now.Round(0)); by.Abs() > tolerance {
		return g.Kernel.ShiftClock(by)
	}
	return nil
}

// ShiftClock moves the wall clock as the host asks: it knows better how far that is off than we do.
func (g *Guest) ShiftClock(by time.Duration) *agentv1.AgentError {
	if by == 0 {
		return nil
	}
	if err := g.Kernel.ShiftClock(by); err != nil {
		return failed("clock", err)
	}
	return nil
}

// Rehearsed is called when a rehearsal was answered: the host stops the guest at once, and it goes on with the
// host's next words.
func (g *Guest) Rehearsed() { g.rehearsed = time.Now() }

func (g *Guest) thaw(lap func(*uint32), reply *agentv1.HelloReply) *agentv1.AgentError {
	if g.Programs == nil {
		return nil
	}
	if err := g.Programs.Thaw(); err != nil {
		return failed("thaw", err)
	}
	lap(&reply.ThawUs)
	return nil
}

// HookError is a hook's failure as the host will be told.
func HookError(err *hooks.Error) *agentv1.AgentError {
	code := "hook_failed"
	if err.TimedOut {
		code = "hook_timeout"
	}
	return &agentv1.AgentError{Code: code, Message: err.Error(), Hook: err.Hook, Output: err.Output}
}

func (g *Guest) entropy(entropy []byte, required bool) error {
	if len(entropy) == 0 && !required {
		return nil
	}
	if len(entropy) < 32 || len(entropy) > 512 {
		return fmt.Errorf("the host sent %d bytes, not 32 to 512", len(entropy))
	}
	return g.Kernel.AddEntropy(entropy)
}
