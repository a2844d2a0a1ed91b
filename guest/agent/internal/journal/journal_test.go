package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLastPartIsKeptAndAPositionFollowsIt(t *testing.T) {
	var console bytes.Buffer
	j := New(&console)
	for range 3000 {
		j.Quietf("%s", strings.Repeat("x", 100))
	}
	text, position, more := j.From(0)
	if len(text) < keepBytes || len(text) > 2*keepBytes {
		t.Fatalf("%d bytes are kept", len(text))
	}
	j.Printf("last")
	<-more
	if next, _, _ := j.From(position); !strings.HasSuffix(string(next), "Z last\n") || strings.Count(string(next), "\n") != 1 {
		t.Fatalf("what follows is %q", next)
	}
	if console.String() != "sporelet: last\n" {
		t.Fatalf("the console shows %q", console.String())
	}
}

func TestAFileGetsWhatWasLoggedBeforeToo(t *testing.T) {
	j := New(nil)
	j.Printf("before")
	path := filepath.Join(t.TempDir(), "deep/agent.log")
	if err := j.OpenFile(path); err != nil {
		t.Fatal(err)
	}
	j.Printf("after")
	j.CloseFile()
	j.Printf("too late")
	if text, _ := os.ReadFile(path); strings.Count(string(text), "\n") != 2 || !strings.Contains(string(text), "before") {
		t.Fatalf("the file holds %q", text)
	}
}
