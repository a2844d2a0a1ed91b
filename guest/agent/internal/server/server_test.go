package server

import (
	"reflect"
	"testing"
)

func TestOneMountPointForEachWritableDisk(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw,noatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
30 22 254:0 /var/lib/docker /var/lib/docker rw - ext4 /dev/vda rw
31 22 254:16 / /mnt/with\040space rw - xfs /dev/vdb rw,attr2
32 22 254:32 / /ro ro - ext4 /dev/vdc ro
`
	if got := diskMounts(mountinfo); !reflect.DeepEqual(got, []string{"/", "/mnt/with space"}) {
		t.Fatalf("got %q", got)
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"a\nb\nc\n", 1, "c\n"}, {"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\n", 9, "a\nb\n"}, {"a\nb", 1, "b"}, {"", 1, ""}} {
		if got := string(lastLines([]byte(c.text), c.n)); got != c.want {
			t.Errorf("last %d lines of %q are %q", c.n, c.text, got)
		}
	}
}
