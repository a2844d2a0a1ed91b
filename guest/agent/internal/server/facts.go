package server

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// Facts tells what the guest is and how it is doing.
func (s *Server) Facts(context.Context, *agentv1.Empty) (*agentv1.FactsResponse, error) {
	facts := &agentv1.FactsResponse{
		AgentVersion: s.Version,
		Kernel:       line("/proc/sys/kernel/osrelease"),
		MachineId:    line(s.Root + "/etc/machine-id"),
		BootId:       line("/proc/sys/kernel/random/boot_id"),
		GenerationId: line(s.Root + uniqueness.GenerationFile),
		WallClockNs:  time.Now().UnixNano(),
	}
	facts.Hostname, _ = os.Hostname()
	memory := memoryFacts(content("/proc/meminfo"))
	facts.MemoryTotalBytes, facts.MemoryAvailableBytes = memory["MemTotal"], memory["MemAvailable"]
	if fields := strings.Fields(line("/proc/loadavg")); len(fields) >= 3 {
		facts.Load1, _ = strconv.ParseFloat(fields[0], 64)
		facts.Load5, _ = strconv.ParseFloat(fields[1], 64)
		facts.Load15, _ = strconv.ParseFloat(fields[2], 64)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		facts.UptimeMs = up.Nano() / int64(time.Millisecond)
	}
	facts.Addresses = addresses()
	return facts, nil
}

// addresses are those that somebody outside could use, with prefix length.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var found []string
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			found = append(found, network.String())
		}
	}
	return found
}

func line(path string) string { return strings.TrimSpace(content(path)) }

func content(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// memoryFacts reads /proc/meminfo, whose unit "kB" is 1024 bytes.
func memoryFacts(text string) map[string]uint64 {
	facts := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, rest, found := strings.Cut(line, ":")
		if fields := strings.Fields(rest); found && len(fields) > 0 {
			if value, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
				facts[name] = value * 1024
			}
		}
	}
	return facts
}

// Logs sends what the agent logged.
func (s *Server) Logs(ctx context.Context, request *agentv1.LogsRequest, stream *connect.ServerStream[agentv1.Chunk]) error {
	text, position, more := s.Journal.From(0)
	if request.Tail > 0 {
		text = lastLines(text, int(request.Tail))
	}
	for {
		if _, err := chunkWriter(stream.Send).Write(text); err != nil || !request.Follow {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
		text, position, more = s.Journal.From(position)
	}
}

// lastLines cuts everything before the last n lines.
func lastLines(text []byte, n int) []byte {
	for i := len(text) - 2; i >= 0; i-- {
		if text[i] == '\n' {
			if n--; n == 0 {
				return text[i+1:]
			}
		}
	}
	return text
}
