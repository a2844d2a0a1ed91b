package main

import (
	"errors"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"sporelet.ai/guest/agent/internal/boot"
	"sporelet.ai/guest/agent/internal/freezer"
	"sporelet.ai/guest/agent/internal/journal"
	"sporelet.ai/guest/agent/internal/port"
	"sporelet.ai/guest/agent/internal/proc"
	"sporelet.ai/guest/agent/internal/server"
	"sporelet.ai/guest/agent/internal/services"
	"sporelet.ai/guest/agent/internal/session"
	"sporelet.ai/guest/agent/internal/uniqueness"
)

// logDirectory holds agent.log and the services' logs.
const logDirectory = "/var/log/sporelet"

// portTimeout bounds the wait for the virtio port after the modules are loaded.
const portTimeout = 30 * time.Second

// runInit is the life of PID 1. When it cannot go on, the machine ends: a host sees that, and a guest
// without an agent is of no use to it.
func runInit() {
	log := journal.New(os.Stderr)
	defer func() {
		if problem := recover(); problem != nil {
			log.Printf("panic: %v\n%s", problem, debug.Stack())
			log.CloseFile()
			boot.End()
		}
	}()
	if err := serveGuest(log); err != nil {
		log.Printf("cannot go on: %v", err)
	}
	log.CloseFile()
	boot.End()
}

func serveGuest(log *journal.Journal) error {
	if err := boot.Run(log.Printf); err != nil {
		return err
	}
	if err := log.OpenFile(logDirectory + "/agent.log"); err != nil {
		log.Printf("no log file: %v", err)
	}
	kernel, err := uniqueness.NewLinux()
	if err != nil {
		return err
	}
	reaper := proc.NewReaper(true)
	programs, err := freezer.New(freezer.Root, reaper)
	if err != nil {
		return err
	}
	keeper, service := assemble(log, "", kernel, reaper)
	keeper.Guest.Programs = programs
	service.End = func(timeout time.Duration) {
		service.Supervisor.Stop(timeout)
		log.Printf("the machine ends")
		log.CloseFile()
		boot.End()
	}
	keeper.Answered = func() {
		if err := proc.SetUrgency(proc.Ordinary); err != nil {
			log.Quietf("the agent stays urgent: %v", err)
		}
	}
	listener, err := port.Listen("agent", portTimeout, keeper.Marker)
	if err != nil {
		return err
	}
	keeper.Guest.Idle = listener.Idle
	log.Printf("agent %s waits for its host", version)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := keeper.Serve(conn); err != nil {
			log.Quietf("session ended: %v", err)
		}
		if service.Parking.Swap(false) {
			keeper.Forget()
			if !service.Private.Load() {
				session.Release()
			}
			// Until the next host was answered; see Keeper.Answered.
			if err := proc.SetUrgency(proc.Urgent); err != nil {
				log.Quietf("resumes will be slower: %v", err)
			}
			if err := listener.Reopen(); err != nil {
				return err
			}
		}
	}
}

// runTest serves on a Unix socket, one connection after the other.
func runTest(listen, root string, supervise bool) error {
	path, ok := strings.CutPrefix(listen, "unix:")
	if !ok {
		return errors.New("not PID 1, and no -listen unix:/path")
	}
	log := journal.New(os.Stderr)
	keeper, service := assemble(log, root, uniqueness.DryRun{}, proc.NewReaper(false))
	service.DryRun = true
	service.End = func(timeout time.Duration) {
		service.Supervisor.Stop(timeout)
		os.Exit(0)
	}
	if !supervise {
		keeper.Ready = nil
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	log.Printf("agent %s waits for its host", version)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := keeper.Serve(conn); err != nil {
			log.Printf("session ended: %v", err)
		}
		if service.Parking.Swap(false) {
			session.Release()
		}
	}
}

func assemble(log *journal.Journal, root string, kernel uniqueness.Kernel, reaper *proc.Reaper) (*session.Keeper, *server.Server) {
	keeper := &session.Keeper{
		Guest:   &uniqueness.Guest{Root: root, Kernel: kernel, Reaper: reaper},
		Journal: log,
		Version: version,
	}
	supervisor := &services.Supervisor{Reaper: reaper, Journal: log, LogDirectory: root + logDirectory}
	service := &server.Server{
		Root: root, Reaper: reaper, Journal: log, Version: version,
		Supervisor: supervisor, Environment: keeper.Environment, Guest: keeper.Guest,
	}
	keeper.Handler = service.Handler()
	// Services find clock, name and network as they will be.
	keeper.Ready = func() {
		specs, err := services.Load(root + services.ConfigFile)
		if err != nil {
			log.Printf("services: %v", err)
		}
		supervisor.Start(specs)
	}
	return keeper, service
}
