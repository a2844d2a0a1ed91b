package frame

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestAFrameComesBackWhole(t *testing.T) {
	for _, body := range [][]byte{{}, []byte("hello"), bytes.Repeat([]byte{7}, MaxBytes)} {
		var wire bytes.Buffer
		if err := Write(&wire, body); err != nil {
			t.Fatal(err)
		}
		got, err := Read(iotest.OneByteReader(&wire))
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes came back as %d, error %v", len(body), len(got), err)
		}
	}
}

func TestAFrameBeyondTheLimitIsRefused(t *testing.T) {
	if err := Write(io.Discard, make([]byte, MaxBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("write: %v", err)
	}
	if _, err := Read(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff})); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("read: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 1, 2})
	f.Add([]byte{0, 0, 0, 2, 1})
	f.Add([]byte{0xff, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		body, err := Read(bytes.NewReader(wire))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, body); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(wire, again.Bytes()) {
			t.Fatalf("% x was read as % x", wire, body)
		}
	})
}
