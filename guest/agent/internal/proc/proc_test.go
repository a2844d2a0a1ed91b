package proc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

func shell(script string, out *os.File) *exec.Cmd {
	return &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Stdout: out, Stderr: out}
}

func TestEveryChildGetsItsOwnStatus(t *testing.T) {
	reaper := NewReaper(false)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			process, err := reaper.Start(context.Background(), shell("exit "+string(rune('0'+i%10)), nil))
			if err != nil {
				t.Error(err)
				return
			}
			<-process.Done()
			if code, signal := process.Result(); code != i%10 || signal != 0 {
				t.Errorf("child %d: code %d, signal %d", i, code, signal)
			}
		})
	}
	all.Wait()
}

func TestASignalReachesTheGroupAndNobodyAfterTheEnd(t *testing.T) {
	reaper := NewReaper(false)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := reaper.Start(context.Background(), shell("sleep 1000 & echo up; wait", write))
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	read.Read(make([]byte, 3))
	if err := process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	if code, signal := process.Result(); code != 137 || signal != 9 {
		t.Fatalf("code %d, signal %d", code, signal)
	}
	// The pipe ends when sleep, which holds it too, is gone.
	if n, _ := read.Read(make([]byte, 1)); n != 0 {
		t.Fatal("something still writes")
	}
	if err := process.Signal(syscall.SIGKILL); err != os.ErrProcessDone {
		t.Fatalf("a signal after the end gives %v", err)
	}
}

func TestAProgramThatDoesNotExistIsAnError(t *testing.T) {
	if _, err := NewReaper(false).Start(context.Background(), &exec.Cmd{Path: "/no/such", Args: []string{"x"}}); !os.IsNotExist(err) {
		t.Fatalf("got %v", err)
	}
}

func TestDrainTakesAllThatWasWrittenBeforeTheEnd(t *testing.T) {
	reaper := NewReaper(false)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	// What stays behind in the background holds the pipe open.
	process, err := reaper.Start(context.Background(), shell("sleep 1000 & head -c 50000 /dev/zero; echo $! >&2", write))
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	<-process.Done()
	var got bytes.Buffer
	if err := Drain(read, process.Done(), make([]byte, 4096), func(part []byte) error {
		got.Write(part)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if zeros := bytes.Count(got.Bytes(), []byte{0}); zeros != 50000 {
		t.Fatalf("%d bytes arrived", zeros)
	}
	syscall.Kill(-process.Pid, syscall.SIGKILL)
}

func TestNothingIsStartedWhileHeld(t *testing.T) {
	reaper := NewReaper(false)
	reaper.Hold()
	ctx, give := context.WithCancel(context.Background())
	give()
	if _, err := reaper.Start(ctx, shell("exit 0", nil)); !errors.Is(err, context.Canceled) {
		t.Fatalf("it was started: %v", err)
	}
	started := make(chan error, 1)
	go func() {
		process, err := reaper.Start(context.Background(), shell("exit 0", nil))
		if err == nil {
			<-process.Done()
		}
		started <- err
	}()
	select {
	case err := <-started:
		t.Fatalf("it was started: %v", err)
	default:
	}
	reaper.Release()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}
