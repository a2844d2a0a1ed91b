package uniqueness

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux is the Kernel that the agent runs on.
type Linux struct {
	// random is /dev/urandom, kept open so that a resume need not look it up.
	random int
	iface  string
	// known is the network that is set, as of Prepare, and socket is for asking about it.
	known  *networkSettings
	socket int
}

// NewLinux opens what first contact needs, so that a clone finds it open.
func NewLinux() (*Linux, error) {
	random, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/urandom: %w", err)
	}
	return &Linux{random: random, socket: -1}, nil
}

// ShiftClock moves the wall clock (ADJ_SETOFFSET, adjtimex(2); Linux 2.6.39). The kernel does that in one step: with
// clock_settime all the time that passes between the reading of a clock and the call, in which a busy host may run
// something else, would be lost.
func (l *Linux) ShiftClock(by time.Duration) error {
	seconds := by / time.Second
	rest := by % time.Second
	if rest < 0 {
		seconds, rest = seconds-1, rest+time.Second
	}
	shift := unix.Timex{Modes: unix.ADJ_SETOFFSET}
	shift.Time.Sec, shift.Time.Usec = int64(seconds), rest.Microseconds()
	if _, err := unix.Adjtimex(&shift); err != nil {
		return fmt.Errorf("adjtimex: %w", err)
	}
	return nil
}

// From linux: include/uapi/linux/random.h.
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// AddEntropy credits entropy to the input pool (RNDADDENTROPY) and has the generator that programs read
// from take a new key from it at once (RNDRESEEDCRNG): clones must not share a single byte.
func (l *Linux) AddEntropy(entropy []byte) error {
	var pool struct {
		bits, bytes int32
		buffer      [512]byte
	}
	pool.bits, pool.bytes = int32(len(entropy)*8), int32(len(entropy))
	copy(pool.buffer[:], entropy)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.random), rndAddEntropy, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return fmt.Errorf("RNDADDENTROPY: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.random), rndReseedCRNG, 0); errno != 0 {
		return fmt.Errorf("RNDRESEEDCRNG: %w", errno)
	}
	return nil
}

// SetHostname sets the name that uname reports.
func (l *Linux) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// DryRun changes nothing: for serving on a developer's machine.
type DryRun struct{}

func (DryRun) ShiftClock(time.Duration) error  { return nil }
func (DryRun) AddEntropy([]byte) error         { return nil }
func (DryRun) SetHostname(string) error        { return nil }
func (DryRun) SetNetwork(_, _, _ string) error { return nil }
func (DryRun) HasNetwork() bool                { return false }
func (DryRun) Prepare() error                  { return nil }
