// Package frame reads and writes the messages of first contact: a 4-byte big-endian length and that
// many bytes (proto/sporelet/agent/v1/agent.proto).
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxBytes bounds one frame's body, so that a garbled length cannot make the agent allocate at will.
const MaxBytes = 1 << 20

// ErrTooLarge says that a frame's length is beyond MaxBytes: the peer does not speak this protocol.
var ErrTooLarge = errors.New("frame is larger than 1 MiB")

// Read returns the body of the next frame. A stream that ends before the frame begins gives io.EOF,
// one that ends inside it io.ErrUnexpectedEOF.
func Read(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}

// Write sends body as one frame with a single Write.
func Write(w io.Writer, body []byte) error {
	if len(body) > MaxBytes {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body))
	}
	frame := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}
