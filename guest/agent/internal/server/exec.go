package server

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/proc"
)

const (
	// chunkBytes is the most that one message carries.
	chunkBytes = 64 << 10
	// pipeBytes is the size of output pipes.
	pipeBytes = 4 * chunkBytes
	// stdinChunks is how much input may wait for a program that does not read: behind it, signals and
	// resizes wait too, because they come on the same stream.
	stdinChunks = 64
)

type execStream = connect.BidiStream[agentv1.ExecRequest, agentv1.ExecResponse]

// Exec runs a program. One that cannot be started ends like in a shell: a line on stderr and exit code
// 127 (not found) or 126 (anything else), without a started message.
func (s *Server) Exec(ctx context.Context, stream *execStream) error {
	first, err := stream.Receive()
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the call ended before it began"))
	}
	start := first.GetStart()
	if start == nil || len(start.Argv) == 0 || start.Argv[0] == "" {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the first message holds no program to start"))
	}
	out := &execOutput{stream: stream}
	command, failure := s.command(start)
	if failure != nil {
		return out.refuse(failure)
	}
	streams, err := openStreams(start)
	if err != nil {
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	defer streams.close()
	streams.attach(command)
	process, err := s.Reaper.Start(ctx, command)
	streams.closeChildSide()
	if err != nil {
		return out.refuse(startFailure(command, err))
	}
	if err := out.send(&agentv1.ExecResponse{Response: &agentv1.ExecResponse_Started{Started: &agentv1.ExecStarted{Pid: int32(process.Pid)}}}); err != nil {
		_ = process.Signal(syscall.SIGKILL)
		return err
	}
	go receive(stream, process, streams)
	stop := context.AfterFunc(ctx, func() { _ = process.Signal(syscall.SIGKILL) })
	defer stop()

	var drained sync.WaitGroup
	for _, output := range streams.outputs {
		drained.Go(func() {
			if err := proc.Drain(output.file, process.Done(), make([]byte, chunkBytes), func(part []byte) error {
				return out.send(output.message(part))
			}); err != nil {
				_ = process.Signal(syscall.SIGKILL)
			}
		})
	}
	<-process.Done()
	drained.Wait()
	code, signal := process.Result()
	return out.exit(code, signal)
}

// receive carries out what the host sends until its side of the call ends.
func receive(stream *execStream, process *proc.Process, streams *execStreams) {
	input := make(chan []byte, stdinChunks)
	go streams.feed(input, process.Done())
	open := true
	closeInput := func() {
		if open {
			open = false
			close(input)
		}
	}
	defer closeInput()
	for {
		request, err := stream.Receive()
		if err != nil {
			return
		}
		switch request := request.Request.(type) {
		case *agentv1.ExecRequest_Stdin:
			if !open {
				continue
			}
			select {
			case input <- request.Stdin:
			case <-process.Done():
				return
			}
		case *agentv1.ExecRequest_CloseStdin:
			closeInput()
		case *agentv1.ExecRequest_Signal:
			_ = process.Signal(syscall.Signal(request.Signal))
		case *agentv1.ExecRequest_Resize:
			streams.resize(request.Resize)
		}
	}
}

// execOutput serialises what a call sends.
type execOutput struct {
	mu     sync.Mutex
	stream *execStream
}

func (o *execOutput) send(response *agentv1.ExecResponse) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream.Send(response)
}

func (o *execOutput) exit(code, signal int) error {
	return o.send(&agentv1.ExecResponse{Response: &agentv1.ExecResponse_Exit{Exit: &agentv1.ExecExit{Code: int32(code), Signal: int32(signal)}}})
}

func (o *execOutput) refuse(failure *commandFailure) error {
	if err := o.send(&agentv1.ExecResponse{Response: &agentv1.ExecResponse_Stderr{Stderr: []byte(failure.message + "\n")}}); err != nil {
		return err
	}
	return o.exit(failure.code, 0)
}

// execStreams are the files between a program and its call.
type execStreams struct {
	stdin    *os.File
	terminal *os.File
	outputs  []execStreamOutput
	child    []*os.File
}

type execStreamOutput struct {
	file    *os.File
	message func([]byte) *agentv1.ExecResponse
}

func stdoutMessage(part []byte) *agentv1.ExecResponse {
	return &agentv1.ExecResponse{Response: &agentv1.ExecResponse_Stdout{Stdout: part}}
}

func stderrMessage(part []byte) *agentv1.ExecResponse {
	return &agentv1.ExecResponse{Response: &agentv1.ExecResponse_Stderr{Stderr: part}}
}

func openStreams(start *agentv1.ExecStart) (*execStreams, error) {
	s := &execStreams{}
	if start.Tty {
		terminal, child, err := pty.Open()
		if err != nil {
			return nil, err
		}
		s.terminal, s.stdin = terminal, terminal
		s.child = []*os.File{child, child, child}
		s.outputs = []execStreamOutput{{terminal, stdoutMessage}}
		s.resize(start.Size)
		return s, nil
	}
	s.child = make([]*os.File, 3)
	var err error
	if s.child[0], s.stdin, err = os.Pipe(); err != nil {
		return nil, err
	}
	for i, message := range []func([]byte) *agentv1.ExecResponse{stdoutMessage, stderrMessage} {
		read, write, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		s.child[i+1] = write
		// More than is read at once, so that program and agent take turns less often. Best effort.
		_, _ = unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, pipeBytes)
		s.outputs = append(s.outputs, execStreamOutput{read, message})
	}
	return s, nil
}

func (s *execStreams) attach(command *exec.Cmd) {
	command.Stdin, command.Stdout, command.Stderr = s.child[0], s.child[1], s.child[2]
	if s.terminal != nil {
		command.SysProcAttr.Setctty = true
		command.SysProcAttr.Ctty = 0
	}
}

func (s *execStreams) closeChildSide() {
	for _, file := range s.child {
		if file != nil {
			_ = file.Close()
		}
	}
	s.child = nil
}

func (s *execStreams) close() {
	s.closeChildSide()
	_ = s.stdin.Close()
	for _, output := range s.outputs {
		_ = output.file.Close()
	}
}

// feed writes input until it is closed. A program that reads no more loses the rest, as in a shell.
func (s *execStreams) feed(input <-chan []byte, ended <-chan struct{}) {
	lost := false
	for {
		select {
		case part, more := <-input:
			if !more {
				s.endInput()
				return
			}
			if !lost {
				_, err := s.stdin.Write(part)
				lost = err != nil
			}
		case <-ended:
			return
		}
	}
}

// endOfTransmission is what a terminal turns into end of file.
const endOfTransmission = 4

func (s *execStreams) endInput() {
	if s.terminal != nil {
		_, _ = s.terminal.Write([]byte{endOfTransmission})
		return
	}
	_ = s.stdin.Close()
}

func (s *execStreams) resize(size *agentv1.WindowSize) {
	if s.terminal != nil && size != nil && size.Columns > 0 && size.Rows > 0 {
		_ = pty.Setsize(s.terminal, &pty.Winsize{Cols: uint16(size.Columns), Rows: uint16(size.Rows)})
	}
}
