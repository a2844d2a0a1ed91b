package freezer

import "testing"

func TestTheStatusOfAProcessIsFoundWhateverItsName(t *testing.T) {
	for _, test := range []struct {
		stat, name string
		state      byte
		flags      uint64
	}{
		{"12 (dd) D 1 12 12 0 -1 4194304 1 2", "dd", 'D', 4194304},
		{"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0", "kthreadd", 'S', 2129984},
		{"7 (a) R 1 (b) S 1 7 7 0 -1 64 0", "a) R 1 (b", 'S', 64},
		{"", "", 0, 0},
		{"12 (dd) D 1", "", 0, 0},
	} {
		name, state, flags := parseStatus(test.stat)
		if name != test.name || state != test.state || flags != test.flags {
			t.Errorf("%q is %q, %c, %d", test.stat, name, state, flags)
		}
	}
}

func TestKernelThreadsAreNoPrograms(t *testing.T) {
	if !isProgram("self") {
		t.Error("this process is none")
	}
	if isProgram("0") {
		t.Error("one that does not exist is one")
	}
	// kthreadd, where this machine has one.
	if name, _, _ := status("2"); name == "kthreadd" && isProgram("2") {
		t.Error("a thread of the kernel is one")
	}
}
