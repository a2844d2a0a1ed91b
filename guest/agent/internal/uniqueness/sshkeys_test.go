package uniqueness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

func TestACloneReplacesSSHHostKeysIfThereAreAnyAndAMachineThatWakesKeepsThem(t *testing.T) {
	root := t.TempDir()
	directory := filepath.Join(root, "etc/ssh")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		entries, _ := os.ReadDir(directory)
		var all []string
		for _, entry := range entries {
			all = append(all, entry.Name())
		}
		return strings.Join(all, " ")
	}
	guest := &Guest{Root: root, Kernel: &recorder{}}
	if failure := apply(guest, resumeHello()); failure != nil {
		t.Fatal(failure)
	}
	if names() != "" {
		t.Fatalf("a guest without keys got %s", names())
	}
	for _, name := range []string{"ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "ssh_config"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte("frozen"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{"frozen": true}
	resume := func(hello *agentv1.Hello) {
		t.Helper()
		if err := guest.Freeze(); err != nil {
			t.Fatal(err)
		}
		if failure := apply(guest, hello); failure != nil {
			t.Fatal(failure)
		}
		guest.Answered()
	}
	for _, digit := range []string{"b", "c"} {
		clone := resumeHello()
		clone.MachineId = strings.Repeat(digit, 32)
		resume(clone)
		if names() != "ssh_config ssh_host_ed25519_key ssh_host_ed25519_key.pub" {
			t.Fatalf("there are %s", names())
		}
		key := filepath.Join(root, sshHostKey)
		info, err := os.Stat(key)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the private key has %v, %v", info, err)
		}
		public, _ := os.ReadFile(key + ".pub")
		if seen[string(public)] {
			t.Fatal("the key was there before")
		}
		seen[string(public)] = true
		for _, generation := range []string{"first", "second"} {
			woken := resumeHello()
			woken.MachineId, woken.GenerationId = clone.MachineId, generation
			resume(woken)
			if again, _ := os.ReadFile(key + ".pub"); string(again) != string(public) {
				t.Fatalf("it has another key after a wake: %q", again)
			}
		}
		if _, err := exec.LookPath("ssh-keygen"); err != nil {
			t.Skip("this host has no ssh-keygen to read the keys with")
		}
		derived, err := exec.Command("ssh-keygen", "-y", "-f", key).CombinedOutput()
		if err != nil || string(derived) != string(public) {
			t.Fatalf("ssh-keygen finds %q, %v, not %q", derived, err, public)
		}
	}
}
