package server

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"connectrpc.com/connect"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
)

// dialTimeout bounds the wait for a service that accepts nothing.
const dialTimeout = 10 * time.Second

// Forward joins the call to one TCP connection. The end of requests closes its writing side; the call ends
// when the service has closed the other.
func (s *Server) Forward(ctx context.Context, stream *connect.BidiStream[agentv1.ForwardRequest, agentv1.Chunk]) error {
	first, err := stream.Receive()
	if err != nil {
		return invalid("the call ended before it began")
	}
	start := first.GetStart()
	if start == nil || start.Port == 0 || start.Port > 65535 {
		return invalid("the first message names no port")
	}
	host := start.Host
	if host == "" {
		host = "127.0.0.1"
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(start.Port)))
	dialer := net.Dialer{Timeout: dialTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, errors.New(address+": "+reason(err)))
	}
	defer connection.Close()
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer stop()
	// The empty message tells the host that there is a connection before the service says anything.
	if err := stream.Send(&agentv1.Chunk{}); err != nil {
		return err
	}
	go func() {
		for {
			request, err := stream.Receive()
			if errors.Is(err, io.EOF) {
				_ = connection.(*net.TCPConn).CloseWrite()
				return
			}
			if err == nil {
				_, err = connection.Write(request.GetData())
			}
			if err != nil {
				_ = connection.Close()
				return
			}
		}
	}()
	err = sendAll(connection, stream.Send)
	if errors.Is(err, net.ErrClosed) {
		return connect.NewError(connect.CodeAborted, errors.New(address+": the connection was given up"))
	}
	return wireError(address, err)
}
