package uniqueness

import (
	"errors"
	"fmt"
	"strings"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// identity sets what names the guest. One that is resumed has all the names of its template, so none may be missing.
func (g *Guest) identity(hello *agentv1.Hello, resume bool) error {
	if resume {
		for _, needed := range [][2]string{
			{hello.Hostname, "host name"}, {hello.MachineId, "machine id"}, {hello.GenerationId, "generation id"},
		} {
			if needed[0] == "" {
				return errors.New("the host sent no " + needed[1])
			}
		}
	}
	if hello.Hostname != "" {
		if err := g.hostname(hello.Hostname); err != nil {
			return err
		}
	}
	if hello.MachineId != "" {
		if !isMachineID(hello.MachineId) {
			return fmt.Errorf("%q is no machine id: 32 lower-case hexadecimal digits", hello.MachineId)
		}
		if err := g.write("/etc/machine-id", []byte(hello.MachineId+"\n"), 0o444); err != nil {
			return err
		}
	}
	if hello.GenerationId != "" {
		return g.setGeneration(hello.GenerationId)
	}
	return nil
}

// isAnother tells whether hello makes the guest another machine than it was: a clone, a fork's child. A machine that
// was only suspended is still the one that others know. Ask before the identity is set.
func (g *Guest) isAnother(hello *agentv1.Hello) bool {
	return strings.TrimSpace(string(g.read("/etc/machine-id"))) != hello.MachineId
}

func (g *Guest) hostname(name string) error {
	if len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool {
		return !(c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}) {
		return fmt.Errorf("%q is no host name", name)
	}
	if err := g.Kernel.SetHostname(name); err != nil {
		return err
	}
	if err := g.write("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	return g.write("/etc/hosts", []byte(hostsWith(string(g.read("/etc/hosts")), name)), 0o644)
}

// hostsWith returns the text of /etc/hosts in which 127.0.1.1, Debian's address for it, is the name of
// this host.
func hostsWith(hosts, name string) string {
	var result strings.Builder
	if hosts == "" {
		hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	}
	found := false
	for line := range strings.Lines(hosts) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "127.0.1.1" {
			if found {
				continue
			}
			found = true
			line = "127.0.1.1 " + name + "\n"
		}
		result.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if !found {
		result.WriteString("127.0.1.1 " + name + "\n")
	}
	return result.String()
}

func isMachineID(id string) bool {
	return len(id) == 32 && !strings.ContainsFunc(id, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	})
}
