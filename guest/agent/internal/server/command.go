package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/account"
)

// Exit codes of programs that never ran, as shells and `docker exec` have them.
const (
	codeNotStarted = 126
	codeNotFound   = 127
)

type commandFailure struct {
	code    int
	message string
}

// command turns a request into a command that is ready to start.
func (s *Server) command(start *agentv1.ExecStart) (*exec.Cmd, *commandFailure) {
	user, err := account.Lookup("", start.User)
	if err != nil {
		return nil, &commandFailure{codeNotStarted, err.Error()}
	}
	env := append(s.baseEnvironment(), "HOME="+user.Home)
	if start.Tty {
		env = append(env, "TERM=xterm")
	}
	for key, value := range start.Env {
		env = append(env, key+"="+value)
	}
	directory := start.WorkingDirectory
	if directory == "" {
		directory = "/"
	}
	if info, err := os.Stat(directory); err != nil {
		return nil, &commandFailure{codeNotStarted, fmt.Sprintf("cannot change to directory %s: %s", directory, reason(err))}
	} else if !info.IsDir() {
		return nil, &commandFailure{codeNotStarted, fmt.Sprintf("cannot change to directory %s: not a directory", directory)}
	}
	path, err := lookPath(start.Argv[0], directory, valueOf(env, "PATH"))
	if err != nil {
		return nil, startFailure(&exec.Cmd{Args: start.Argv}, err)
	}
	attributes := &syscall.SysProcAttr{}
	if account.NeedsSwitch(user) {
		attributes.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
	}
	return &exec.Cmd{Path: path, Args: start.Argv, Env: env, Dir: directory, SysProcAttr: attributes}, nil
}

// startFailure words why a program did not start.
func startFailure(command *exec.Cmd, err error) *commandFailure {
	name := command.Args[0]
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return &commandFailure{codeNotFound, name + ": not found in PATH"}
	case errors.Is(err, fs.ErrNotExist):
		return &commandFailure{codeNotFound, name + ": no such file or directory"}
	default:
		return &commandFailure{codeNotStarted, name + ": " + reason(err)}
	}
}

// reason is the innermost error: the part without Go's operation names.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// lookPath finds a program as execvp does, in the PATH that it will run with.
func lookPath(name, directory, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var denied error
	for _, place := range filepath.SplitList(path) {
		if place == "" {
			place = "."
		}
		if !filepath.IsAbs(place) {
			place = filepath.Join(directory, place)
		}
		candidate := filepath.Join(place, name)
		info, err := os.Stat(candidate)
		switch {
		case err != nil || info.IsDir():
		case info.Mode()&0o111 == 0:
			denied = fs.ErrPermission
		default:
			return candidate, nil
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", exec.ErrNotFound
}

// valueOf returns the last value of a variable.
func valueOf(env []string, key string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if name, value, _ := strings.Cut(env[i], "="); name == key {
			return value
		}
	}
	return ""
}
