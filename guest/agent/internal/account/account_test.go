package account

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestUsersAreFoundByNameNumberAndGroup(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "etc"), 0o755)
	os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:33:Web:/srv:/bin/sh\n42:x:7:7::/seven:/bin/sh\nbroken\n"), 0o644)
	os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\nwww:x:33:\ndocker:x:99:web,other\nlogs:x:4:web\n"), 0o644)
	for text, want := range map[string]User{
		"":           {Name: "root", Home: "/root", Groups: []uint32{}},
		"web":        {Name: "web", UID: 1000, GID: 33, Home: "/srv", Groups: []uint32{99, 4}},
		"1000":       {Name: "web", UID: 1000, GID: 33, Home: "/srv", Groups: []uint32{99, 4}},
		"web:docker": {Name: "web", UID: 1000, GID: 99, Home: "/srv"},
		"web:5":      {Name: "web", UID: 1000, GID: 5, Home: "/srv"},
		"42":         {Name: "42", UID: 7, GID: 7, Home: "/seven", Groups: []uint32{}},
		"1234:5678":  {Name: "1234", UID: 1234, GID: 5678, Home: "/"},
	} {
		if got, err := Lookup(root, text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"nobody-here", "web:nothing", "-1"} {
		if got, err := Lookup(root, text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}
