package services

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAConfigWithAMistakeIsRefusedWithTheReason(t *testing.T) {
	for text, reason := range map[string]string{
		`{"services":[`: "unexpected end",
		`{"services":[{"name":"../x","argv":["a"]}]}`:                                                    "is no name",
		`{"services":[{"name":"a","argv":[]}]}`:                                                          "has no argv",
		`{"services":[{"name":"a","argv":["a"]},{"name":"a","argv":["a"]}]}`:                             "twice",
		`{"services":[{"name":"a","argv":["a"],"restart":"often"}]}`:                                     "restart",
		`{"services":[{"name":"a","argv":["a"],"after":["b"]}]}`:                                         "not there",
		`{"services":[{"name":"a","argv":["a"],"after":["b"]},{"name":"b","argv":["b"],"after":["a"]}]}`: "waits for itself",
	} {
		path := filepath.Join(t.TempDir(), "agent.json")
		os.WriteFile(path, []byte(text), 0o644)
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s gives %v", text, err)
		}
	}
}

func TestNoConfigIsOneWithoutServices(t *testing.T) {
	if specs, err := Load(filepath.Join(t.TempDir(), "none")); err != nil || specs != nil {
		t.Fatalf("got %v, %v", specs, err)
	}
}
