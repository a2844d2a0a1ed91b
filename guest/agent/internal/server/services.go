package server

import (
	"context"
	"time"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// Services tells the state of the supervised services.
func (s *Server) Services(context.Context, *agentv1.Empty) (*agentv1.ServicesResponse, error) {
	response := &agentv1.ServicesResponse{}
	for _, status := range s.Supervisor.Status() {
		response.Services = append(response.Services, &agentv1.Service{
			Name: status.Name, State: string(status.State), Pid: int32(status.Pid),
			ExitCode: int32(status.ExitCode), Restarts: uint32(status.Restarts), Log: status.Log,
		})
	}
	return response, nil
}

// stopTimeout is how long each service may take to stop when the host says nothing.
const stopTimeout = 10 * time.Second

// Shutdown lets the session end after its reply and then ends the machine.
func (s *Server) Shutdown(_ context.Context, request *agentv1.ShutdownRequest) (*agentv1.Empty, error) {
	timeout := time.Duration(request.TimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = stopTimeout
	}
	go s.End(timeout)
	return &agentv1.Empty{}, nil
}
