package server

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/proc"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// standing counts what stops and thaws programs.
type standing struct{ stopped, thawed int }

func (s *standing) Freeze() error { s.stopped++; return nil }
func (s *standing) Thaw() error   { s.thawed++; return nil }

// quiescent is a server whose guest has a hook that leaves a line in a file each time it runs.
func quiescent(t *testing.T) (s *Server, programs *standing, runs func() int) {
	t.Helper()
	root := t.TempDir()
	hooks := root + uniqueness.HookDirectory + "/before-freeze.d"
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(root, "ran")
	if err := os.WriteFile(hooks+"/10-note", []byte("#!/bin/sh\necho ran >> "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	programs = &standing{}
	reaper := proc.NewReaper(false)
	s = &Server{
		Root: root, DryRun: true, Reaper: reaper, Journal: journal.New(os.Stderr),
		Environment: func() []string { return nil },
		Guest: &uniqueness.Guest{
			Root: root, Kernel: uniqueness.DryRun{}, Reaper: reaper, Programs: programs,
		},
	}
	return s, programs, func() int {
		text, _ := os.ReadFile(ran)
		return len(text) / len("ran\n")
	}
}

func quiesce(t *testing.T, s *Server, stage agentv1.QuiesceStage) {
	t.Helper()
	response, err := s.Quiesce(context.Background(), &agentv1.QuiesceRequest{Stage: stage})
	if err != nil {
		t.Fatal(err)
	}
	if response.Error != nil {
		t.Fatal(response.Error.Message)
	}
}

func TestAtOnceHooksRunAndProgramsAreStopped(t *testing.T) {
	s, programs, runs := quiescent(t)
	quiesce(t, s, agentv1.QuiesceStage_QUIESCE_STAGE_UNSPECIFIED)
	if runs() != 1 || programs.stopped != 1 || !s.Parking.Load() {
		t.Fatalf("hooks ran %d times, programs were stopped %d times, parking: %v", runs(), programs.stopped, s.Parking.Load())
	}
}

func TestInTwoStagesProgramsAreStoppedByTheSecond(t *testing.T) {
	s, programs, runs := quiescent(t)
	quiesce(t, s, agentv1.QuiesceStage_QUIESCE_STAGE_PREPARE)
	if runs() != 1 || programs.stopped != 0 || s.Parking.Load() {
		t.Fatalf("hooks ran %d times, programs were stopped %d times, parking: %v", runs(), programs.stopped, s.Parking.Load())
	}
	quiesce(t, s, agentv1.QuiesceStage_QUIESCE_STAGE_STOP)
	if runs() != 1 || programs.stopped != 1 || !s.Parking.Load() {
		t.Fatalf("hooks ran %d times, programs were stopped %d times, parking: %v", runs(), programs.stopped, s.Parking.Load())
	}
}
