// Package account looks users and groups up in the guest's files. The agent is static and has no NSS.
package account

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// User is what a process runs as.
type User struct {
	Name     string
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	Home   string
}

// Lookup understands NAME, UID, NAME:GROUP and UID:GID, and "" as root, by /etc/passwd and /etc/group
// below root. Numbers need not be listed there; with an explicit group there are no supplementary groups,
// as in `docker exec --user`.
func Lookup(root, text string) (User, error) {
	name, group, grouped := strings.Cut(text, ":")
	if name == "" {
		name = "0"
	}
	user, found := findUser(read(root+"/etc/passwd"), name)
	if !found {
		uid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return User{}, fmt.Errorf("unknown user %s", name)
		}
		user = User{Name: name, UID: uint32(uid), Home: "/"}
		if uid == 0 {
			user.Home = "/root"
		}
	}
	groups := read(root + "/etc/group")
	if !grouped || group == "" {
		user.Groups = groupsOf(groups, user)
		return user, nil
	}
	gid, found := findGroup(groups, group)
	if !found {
		number, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			return User{}, fmt.Errorf("unknown group %s", group)
		}
		gid = uint32(number)
	}
	user.GID = gid
	return user, nil
}

// NeedsSwitch says whether running as user takes setuid: only root may do it, and an agent that is not
// root can run things as itself.
func NeedsSwitch(user User) bool {
	return os.Getuid() == 0 || int(user.UID) != os.Getuid() && user.UID != 0
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// findUser prefers a name to a number, as Docker does.
func findUser(passwd, name string) (User, bool) {
	var byNumber *User
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 6 {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(fields[3], 10, 32)
		if err != nil {
			continue
		}
		user := User{Name: fields[0], UID: uint32(uid), GID: uint32(gid), Home: fields[5]}
		if fields[0] == name {
			return user, true
		}
		if fields[2] == name && byNumber == nil {
			byNumber = &user
		}
	}
	if byNumber == nil {
		return User{}, false
	}
	return *byNumber, true
}

func findGroup(groups, name string) (uint32, bool) {
	for line := range strings.Lines(groups) {
		if fields := strings.Split(line, ":"); len(fields) >= 3 && fields[0] == name {
			if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
				return uint32(gid), true
			}
		}
	}
	return 0, false
}

func groupsOf(groups string, user User) []uint32 {
	result := []uint32{}
	for line := range strings.Lines(groups) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 || !slices.Contains(strings.Split(fields[3], ","), user.Name) {
			continue
		}
		if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			result = append(result, uint32(gid))
		}
	}
	return result
}
