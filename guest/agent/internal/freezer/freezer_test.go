package freezer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sporelet.ai/guest/agent/internal/proc"
)

// files are what the kernel shows of cgroups, as ordinary files: everything is frozen as soon as it is asked.
func files(t *testing.T, groups ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range append(groups, programs) {
		directory := filepath.Join(root, name)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n", "cgroup.procs": ""} {
			if err := os.WriteFile(filepath.Join(directory, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestAProcessThatComesIntoTheRootWhileTheRestIsFrozenIsFrozenToo(t *testing.T) {
	root := files(t, "docker")
	isAsked := func(name string) bool {
		state, _ := os.ReadFile(filepath.Join(root, name, "cgroup.freeze"))
		return string(state) == "1"
	}
	looks := 0
	late := []string{}
	f := &Freezer{root: root, reaper: proc.NewReaper(false)}
	// At the first look there is nobody; then one comes, and another while that is put away.
	f.list = func() ([]string, error) {
		looks++
		if looks == 2 || looks == 4 {
			if !isAsked("docker") || !isAsked(programs) {
				t.Error("it was not looked for again after the freeze")
			}
			late = append(late, "4711")
			return []string{"4711"}, nil
		}
		return nil, nil
	}
	if err := f.freezeAll(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	moved, _ := os.ReadFile(filepath.Join(root, programs, "cgroup.procs"))
	if len(late) != 2 || string(moved) != "4711" {
		t.Fatalf("of the late ones %v, %q was moved", late, moved)
	}
	if err := f.thaw(); err != nil {
		t.Fatal(err)
	}
}

func TestTheKernelsThreadsAreLookedAtOnce(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte("1\n2\nself\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if name, _, _ := status("2"); name != "kthreadd" {
		t.Skip("process 2 of this machine is none of the kernel's threads")
	}
	all := &strays{root: root, kernel: map[string]bool{}}
	for range 2 {
		if ids, err := all.list(); err != nil || len(ids) != 1 || ids[0] != "self" {
			t.Fatalf("it finds %v, %v", ids, err)
		}
		if !all.kernel["2"] {
			t.Fatal("it does not keep in mind that 2 is one")
		}
	}
}
