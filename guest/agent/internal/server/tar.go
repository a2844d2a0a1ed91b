package server

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	agentv1 "sporelet.ai/guest/agent/gen/sporelet/agent/v1"
	"sporelet.ai/guest/agent/internal/archive"
)

// ReadTar sends a file or tree as a tar whose names begin with its own name.
func (s *Server) ReadTar(ctx context.Context, request *agentv1.ReadTarRequest, stream *connect.ServerStream[agentv1.Chunk]) error {
	path, err := absolute(request.Path)
	if err != nil {
		return err
	}
	return wireError(path, archive.Pack(ctx, path, chunkWriter(stream.Send)))
}

// WriteTar unpacks a tar below a directory, which it makes if need be.
func (s *Server) WriteTar(ctx context.Context, stream *connect.ClientStream[agentv1.WriteTarRequest]) (*agentv1.Empty, error) {
	if !stream.Receive() {
		return nil, errors.Join(stream.Err(), invalid("the call ended before it began"))
	}
	start := stream.Msg().GetStart()
	if start == nil {
		return nil, invalid("the first message names no directory")
	}
	directory, err := absolute(start.Directory)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, wireError(directory, err)
	}
	err = archive.Unpack(ctx, &tarReader{stream: stream}, directory)
	var escape *archive.EscapeError
	if errors.As(err, &escape) || errors.Is(err, archive.ErrMalformed) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return &agentv1.Empty{}, wireError(filepath.Clean(directory), err)
}

// tarReader is the data of a call as a stream.
type tarReader struct {
	stream *connect.ClientStream[agentv1.WriteTarRequest]
	rest   []byte
}

func (r *tarReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
