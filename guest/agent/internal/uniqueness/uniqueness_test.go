package uniqueness

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// recorder notes what the kernel was asked for; fail makes one of it go wrong.
type recorder struct {
	calls []string
	fail  string
	// offline: the guest has no network interface.
	offline bool
	// shifts are those of the clock.
	shifts []time.Duration
}

func (r *recorder) call(name string) error {
	r.calls = append(r.calls, name)
	if r.fail == name {
		return errors.New("the kernel refused")
	}
	return nil
}

func (r *recorder) ShiftClock(by time.Duration) error {
	r.shifts = append(r.shifts, by)
	return r.call("clock")
}
func (r *recorder) AddEntropy([]byte) error         { return r.call("entropy") }
func (r *recorder) SetHostname(string) error        { return r.call("hostname") }
func (r *recorder) SetNetwork(_, _, _ string) error { return r.call("network") }
func (r *recorder) HasNetwork() bool                { return !r.offline }
func (r *recorder) Prepare() error                  { return r.call("prepare") }

func resumeHello() *agentv1.Hello {
	return &agentv1.Hello{
		Protocol: 1, Kind: agentv1.HelloKind_HELLO_KIND_RESUME, WallClockNs: 1, Entropy: make([]byte, 32),
		Hostname: "clone", MachineId: strings.Repeat("a", 32), GenerationId: "generation",
		Network: &agentv1.Network{Mac: "52:54:00:00:00:01", Address: "10.0.0.2/24", Dns: []string{"10.0.0.3"}},
	}
}

func apply(g *Guest, hello *agentv1.Hello) *agentv1.AgentError {
	return g.Apply(hello, &agentv1.HelloReply{}, func() []string { return nil })
}

func TestAResumeGoesThroughItsStepsInOrderAndStopsWhereOneFails(t *testing.T) {
	steps := []string{"clock", "entropy", "hostname", "network"}
	codes := []string{"clock", "entropy", "identity", "network"}
	for i, step := range steps {
		kernel := &recorder{fail: step}
		failure := apply(&Guest{Root: t.TempDir(), Kernel: kernel}, resumeHello())
		if failure == nil || failure.Code != codes[i] {
			t.Errorf("a failure of %s is told as %v", step, failure)
		}
		if !reflect.DeepEqual(kernel.calls, steps[:i+1]) {
			t.Errorf("a failure of %s comes after %v", step, kernel.calls)
		}
	}
}

func TestAResumeWithoutAnIdentityIsRefused(t *testing.T) {
	for what, forget := range map[string]func(*agentv1.Hello){
		"host name":     func(hello *agentv1.Hello) { hello.Hostname = "" },
		"machine id":    func(hello *agentv1.Hello) { hello.MachineId = "" },
		"generation id": func(hello *agentv1.Hello) { hello.GenerationId = "" },
		"time":          func(hello *agentv1.Hello) { hello.WallClockNs = 0 },
		"0 bytes":       func(hello *agentv1.Hello) { hello.Entropy = nil },
		"no address":    func(hello *agentv1.Hello) { hello.Network.Address = "" },
		"no MAC":        func(hello *agentv1.Hello) { hello.Network.Mac = "" },
		"MAC address":   func(hello *agentv1.Hello) { hello.Network = nil },
	} {
		for _, kind := range []agentv1.HelloKind{agentv1.HelloKind_HELLO_KIND_RESUME, agentv1.HelloKind_HELLO_KIND_REHEARSAL} {
			hello := resumeHello()
			hello.Kind = kind
			forget(hello)
			failure := apply(&Guest{Root: t.TempDir(), Kernel: &recorder{}}, hello)
			if failure == nil || !strings.Contains(failure.Message, what) {
				t.Errorf("%s without %s: %v", kind, what, failure)
			}
		}
	}
	hello := resumeHello()
	hello.Network = nil
	if failure := apply(&Guest{Root: t.TempDir(), Kernel: &recorder{offline: true}}, hello); failure != nil {
		t.Errorf("a guest without an interface needs a network: %v", failure)
	}
}

func TestTheClockIsMovedByWhatTheWordsHaveWaitedToo(t *testing.T) {
	kernel := &recorder{}
	idle := time.Now().Add(-40 * time.Millisecond)
	guest := &Guest{Root: t.TempDir(), Kernel: kernel, Idle: func() time.Time { return idle }}
	hello := resumeHello()
	hello.WallClockNs = time.Now().Add(time.Hour).UnixNano()
	if failure := apply(guest, hello); failure != nil {
		t.Fatal(failure)
	}
	if off := kernel.shifts[0] - time.Hour - 40*time.Millisecond; len(kernel.shifts) != 1 || off.Abs() > 20*time.Millisecond {
		t.Fatalf("the clock was moved by %v", kernel.shifts)
	}
}

func TestAReconnectSetsTheClockAlone(t *testing.T) {
	kernel := &recorder{}
	hello := resumeHello()
	hello.Kind = agentv1.HelloKind_HELLO_KIND_RECONNECT
	root := t.TempDir()
	if failure := apply(&Guest{Root: root, Kernel: kernel}, hello); failure != nil {
		t.Fatal(failure)
	}
	if entries, _ := os.ReadDir(root); len(entries) > 0 || !reflect.DeepEqual(kernel.calls, []string{"clock"}) {
		t.Fatalf("it did %v and wrote %v", kernel.calls, entries)
	}
}

func TestAPreparedGuestWritesTheSameAsOneThatIsNot(t *testing.T) {
	for _, prepare := range []bool{false, true} {
		root := t.TempDir()
		guest := &Guest{Root: root, Kernel: &recorder{}}
		first := resumeHello()
		first.Hostname = "a-much-longer-name"
		if failure := apply(guest, first); failure != nil {
			t.Fatal(failure)
		}
		if prepare {
			if err := guest.Freeze(); err != nil {
				t.Fatal(err)
			}
		}
		second := resumeHello()
		second.MachineId = strings.Repeat("b", 32)
		second.GenerationId = "another"
		if failure := apply(guest, second); failure != nil {
			t.Fatal(failure)
		}
		guest.Answered()
		for file, want := range map[string]string{
			"/etc/hostname": "clone\n", "/etc/machine-id": second.MachineId + "\n", GenerationFile: "another\n",
			"/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 clone\n",
		} {
			if got, _ := os.ReadFile(filepath.Join(root, file)); string(got) != want {
				t.Errorf("prepared %v: %s is %q", prepare, file, got)
			}
		}
	}
}

func TestWhoWaitsForTheNextGenerationIsToldAndFindsIt(t *testing.T) {
	for _, freeze := range []bool{false, true} {
		root := t.TempDir()
		guest := &Guest{Root: root, Kernel: &recorder{}}
		if failure := apply(guest, resumeHello()); failure != nil {
			t.Fatal(failure)
		}
		guest.Answered()
		id, err := os.Open(root + GenerationFile)
		if err != nil {
			t.Fatal(err)
		}
		defer id.Close()
		if freeze {
			if err := guest.Freeze(); err != nil {
				t.Fatal(err)
			}
		}
		waiting, err := os.Open(root + NextGenerationFile)
		if err != nil {
			t.Fatal(err)
		}
		defer waiting.Close()
		if err := waiting.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the generation ends at once: %v", err)
		}
		_ = waiting.SetReadDeadline(time.Time{})
		second := resumeHello()
		second.GenerationId = "GENERATION"
		if failure := apply(guest, second); failure != nil {
			t.Fatal(failure)
		}
		// Before the host is answered.
		if _, err := waiting.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the generation goes on: %v", err)
		}
		// The open file is the one that was written.
		if got, _ := io.ReadAll(id); string(got) != "GENERATION\n" {
			t.Fatalf("frozen %v: it is %q", freeze, got)
		}
		guest.Answered()
		next, err := os.Open(root + NextGenerationFile)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		_ = next.SetReadDeadline(time.Now())
		if _, err := next.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the next generation ends at once: %v", err)
		}
	}
}

func TestAGuestThatCannotTellOfItsGenerationDoesNotBecomeReady(t *testing.T) {
	root := t.TempDir()
	// What waits there cannot be replaced.
	if err := os.MkdirAll(root+NextGenerationFile+"/full", 0o755); err != nil {
		t.Fatal(err)
	}
	programs := &stopped{}
	failure := apply(&Guest{Root: root, Kernel: &recorder{}, Programs: programs}, resumeHello())
	if failure == nil || failure.Code != "identity" || programs.thawed {
		t.Fatalf("it is told as %v, and programs went on: %v", failure, programs.thawed)
	}
}

func TestARehearsalTellsNobody(t *testing.T) {
	root := t.TempDir()
	guest := &Guest{Root: root, Kernel: &recorder{}}
	if failure := apply(guest, resumeHello()); failure != nil {
		t.Fatal(failure)
	}
	waiting, err := os.Open(root + NextGenerationFile)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	rehearsal := resumeHello()
	rehearsal.Kind, rehearsal.GenerationId = agentv1.HelloKind_HELLO_KIND_REHEARSAL, "another"
	if failure := apply(guest, rehearsal); failure != nil {
		t.Fatal(failure)
	}
	_ = waiting.SetReadDeadline(time.Now())
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the generation ends: %v", err)
	}
}

// stopped are programs that stand still.
type stopped struct{ thawed bool }

func (s *stopped) Freeze() error { return nil }
func (s *stopped) Thaw() error {
	s.thawed = true
	return nil
}

func TestHostsKeepsWhatItHadAndNamesTheHostOnce(t *testing.T) {
	got := hostsWith("127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.9 db\n127.0.1.1 older", "new")
	if want := "127.0.0.1 localhost\n127.0.1.1 new\n10.0.0.9 db\n"; got != want {
		t.Fatalf("got %q", got)
	}
}

func TestDefaultGatewaysAreThoseOfTheInterface(t *testing.T) {
	const routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t01006B0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t00006B0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"br0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	if got := defaultGateways(routes, "eth0"); !reflect.DeepEqual(got, []netip.Addr{netip.MustParseAddr("10.107.0.1")}) {
		t.Fatalf("got %v", got)
	}
}

func TestNeighboursAreThoseOfTheInterface(t *testing.T) {
	const table = "IP address       HW type     Flags       HW address            Mask     Device\n" +
		"10.107.0.1       0x1         0x2         52:55:0a:6b:00:01     *        eth0\n" +
		"172.17.0.2       0x1         0x2         02:42:ac:11:00:02     *        docker0\n"
	if got := neighbours(table, "eth0"); !reflect.DeepEqual(got, []netip.Addr{netip.MustParseAddr("10.107.0.1")}) {
		t.Fatalf("got %v", got)
	}
}

func TestNetmask(t *testing.T) {
	for bits, want := range map[int]string{0: "0.0.0.0", 8: "255.0.0.0", 24: "255.255.255.0", 30: "255.255.255.252", 32: "255.255.255.255"} {
		if got := netmask(bits).String(); got != want {
			t.Errorf("/%d is %s", bits, got)
		}
	}
}

func TestAMACAddressHasSixParts(t *testing.T) {
	if got, err := parseMAC("52:54:00:6b:00:02"); err != nil || got != [6]byte{0x52, 0x54, 0, 0x6b, 0, 2} {
		t.Fatalf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "52:54:00:6b:00", "52:54:00:6b:00:zz", "52:54:00:6b:00:100"} {
		if _, err := parseMAC(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}
