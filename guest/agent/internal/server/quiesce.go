package server

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/hooks"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// Quiesce prepares for a freeze. The order matters: hooks may write, so file systems are synced after them;
// blocks can be trimmed once deletions are on disk; the page cache holds only clean pages then. Programs are
// stopped as late as possible, because the parent of a fork waits for them, and after the syncing, which may need
// one of them (a file system in user space). What a clone needs first is read when nobody can change it any more.
// In two stages the host can write back what the first one synced while programs still run.
func (s *Server) Quiesce(ctx context.Context, request *agentv1.QuiesceRequest) (*agentv1.QuiesceResponse, error) {
	response := &agentv1.QuiesceResponse{}
	if request.Stage != agentv1.QuiesceStage_QUIESCE_STAGE_STOP {
		if failure := s.beforeFreeze(request, response); failure != nil {
			response.Error = uniqueness.HookError(failure)
			return response, nil
		}
	}
	if !s.DryRun {
		unix.Sync()
		if request.Trim {
			response.TrimmedBytes = s.trim()
		}
		if request.DropCaches {
			if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
				return nil, fmt.Errorf("drop caches: %w", err)
			}
		}
	}
	if request.Stage == agentv1.QuiesceStage_QUIESCE_STAGE_PREPARE {
		return response, nil
	}
	s.freezing.Lock()
	defer s.freezing.Unlock()
	// Nobody waits for this any more; a call of Thaw may have come already.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Guest.Freeze(); err != nil {
		response.Error = &agentv1.AgentError{Code: "freeze", Message: err.Error()}
		return response, nil
	}
	s.Private.Store(request.Private)
	s.Parking.Store(true)
	return response, nil
}

// beforeFreeze runs the hooks for a freeze, the last first.
func (s *Server) beforeFreeze(request *agentv1.QuiesceRequest, response *agentv1.QuiesceResponse) *hooks.Error {
	began := time.Now()
	list := hooks.List(s.Root + uniqueness.HookDirectory + "/before-freeze.d")
	slices.Reverse(list)
	env := append(s.baseEnvironment(), "HOME=/root")
	timeout := time.Duration(request.HookTimeoutMs) * time.Millisecond
	failure := hooks.Run(s.Reaper, list, env, timeout)
	response.HooksMs = uint32(time.Since(began).Milliseconds())
	return failure
}

// Thaw lets programs go on after a Quiesce that was given up.
func (s *Server) Thaw(context.Context, *agentv1.Empty) (*agentv1.Empty, error) {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	s.Parking.Store(false)
	return &agentv1.Empty{}, s.Guest.Thaw()
}

// fitrim is FITRIM, _IOWR('X', 121, struct fstrim_range) (linux: include/uapi/linux/fs.h).
const fitrim = 0xc0185879

// trim tells the disks which blocks are free. A file system that cannot is left alone.
func (s *Server) trim() (bytes uint64) {
	for _, path := range diskMounts(content("/proc/self/mountinfo")) {
		directory, err := os.Open(path)
		if err != nil {
			continue
		}
		everything := struct{ start, length, minimum uint64 }{length: ^uint64(0)}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, directory.Fd(), fitrim, uintptr(unsafe.Pointer(&everything)))
		_ = directory.Close()
		if errno == 0 {
			bytes += everything.length
		} else if errno != unix.EOPNOTSUPP && errno != unix.ENOTTY && errno != unix.EROFS {
			s.Journal.Quietf("trim %s: %v", path, errno)
		}
	}
	return bytes
}

// diskMounts returns one mount point for each writable file system on a block device, from mountinfo (proc(5)).
func diskMounts(mountinfo string) []string {
	var paths []string
	seen := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		before, after, found := strings.Cut(line, " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if !found || len(mount) < 6 || len(source) < 3 || !strings.HasPrefix(source[1], "/dev/") {
			continue
		}
		if device := mount[2]; !seen[device] && !strings.HasPrefix(source[2], "ro") {
			seen[device] = true
			paths = append(paths, unescape(mount[4]))
		}
	}
	return paths
}

// unescape undoes the octal escapes of mountinfo.
func unescape(path string) string {
	var result strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if value, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				result.WriteByte(byte(value))
				i += 3
				continue
			}
		}
		result.WriteByte(path[i])
	}
	return result.String()
}
