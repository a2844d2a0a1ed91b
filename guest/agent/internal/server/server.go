// Package server is AgentService: what a host can do in the guest after first contact.
package server

import (
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"sporelet.ai/guest/agent/gen/sporelet/agent/v1/agentv1connect"
	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/proc"
	"sporelet.ai/guest/agent/internal/services"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// Server implements agentv1connect.AgentServiceHandler.
type Server struct {
	Reaper  *proc.Reaper
	Journal *journal.Journal
	Version string
	// Root is put before the names of the files that belong to the guest's identity: "" in a guest.
	Root string
	// DryRun leaves the kernel and its file systems alone.
	DryRun bool
	// Supervisor runs the guest's services.
	Supervisor *services.Supervisor
	// End ends the machine; called after the reply to Shutdown.
	End func(timeout time.Duration)
	// Guest is stopped at the end of Quiesce.
	Guest *uniqueness.Guest
	// Environment is what the host's Hello gave for all programs, as KEY=VALUE.
	Environment func() []string
	// Parking is set by Quiesce: when this host leaves, the agent parks for a freeze.
	Parking atomic.Bool
	// Private: what is frozen then is this machine's alone.
	Private atomic.Bool
	// freezing is held while programs are stopped or let go on.
	freezing sync.Mutex
}

// Handler returns the service as HTTP. Compression is off: the wire is a memory copy.
func (s *Server) Handler() http.Handler {
	_, handler := agentv1connect.NewAgentServiceHandler(s, connect.WithCompression("gzip", nil, nil))
	return handler
}

func (s *Server) baseEnvironment() []string {
	hostname, _ := os.Hostname()
	return append([]string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}, s.Environment()...)
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
