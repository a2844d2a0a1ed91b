package uniqueness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A clone that has the SSH host keys of its snapshot can be impersonated by all others of it. If the guest has any,
// it gets one of its own, of the kind that takes no time to make, ed25519; keys of other kinds are removed, which
// sshd does without unless its configuration names no other. A guest that has none is left alone, and so is one that was
// only suspended: it is the machine whose keys its clients know.

const (
	sshHostKeys = "/etc/ssh/ssh_host_*_key"
	sshHostKey  = "/etc/ssh/ssh_host_ed25519_key"
	// sshdPid is sshd's PidFile (sshd_config(5), as Debian sets it).
	sshdPid = "/run/sshd.pid"
)

// hostKeys are the files with private keys.
func (g *Guest) hostKeys() []string {
	if g.prepared != nil {
		return g.prepared.hostKeys
	}
	keys, _ := filepath.Glob(g.Root + sshHostKeys)
	return keys
}

func (g *Guest) renewHostKeys(comment string) error {
	old := g.hostKeys()
	if len(old) == 0 {
		return nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	private64, public64, err := openSSHKey(public, private, "root@"+comment)
	if err != nil {
		return err
	}
	// The old ones first: whatever fails, none of them stays in use.
	for _, key := range old {
		for _, suffix := range []string{"", ".pub", "-cert.pub"} {
			if err := os.Remove(key + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if err := os.WriteFile(g.Root+sshHostKey, private64, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(g.Root+sshHostKey+".pub", public64, 0o644); err != nil {
		return err
	}
	return g.reloadSSHD()
}

// reloadSSHD has a running sshd read its keys again. It is still frozen, so it does that before anything else.
func (g *Guest) reloadSSHD() error {
	text, err := os.ReadFile(g.Root + sshdPid)
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil
	}
	// The number may belong to another process by now.
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if strings.TrimSpace(string(name)) != "sshd" {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGHUP); err != nil && err != unix.ESRCH {
		return fmt.Errorf("reload sshd: %w", err)
	}
	return nil
}

// openSSHKey writes a key as ssh-keygen does (OpenSSH: PROTOCOL.key; RFC 8709 for the public part).
func openSSHKey(public ed25519.PublicKey, private ed25519.PrivateKey, comment string) (secret, open []byte, err error) {
	const kind = "ssh-ed25519"
	blob := sshStrings([]byte(kind), public)
	// The same number twice shows a reader that it decrypted the key rightly.
	var check [4]byte
	if _, err := rand.Read(check[:]); err != nil {
		return nil, nil, err
	}
	inner := bytes.Join([][]byte{check[:], check[:], blob, sshStrings(private, []byte(comment))}, nil)
	for i := byte(1); len(inner)%8 != 0; i++ {
		inner = append(inner, i)
	}
	body := append([]byte("openssh-key-v1\x00"), sshStrings([]byte("none"), []byte("none"), nil)...)
	body = binary.BigEndian.AppendUint32(body, 1)
	body = append(body, sshStrings(blob, inner)...)
	secret = pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: body})
	return secret, []byte(kind + " " + base64.StdEncoding.EncodeToString(blob) + " " + comment + "\n"), nil
}

// sshStrings is each with its length before it (RFC 4251, section 5).
func sshStrings(parts ...[]byte) (result []byte) {
	for _, part := range parts {
		result = binary.BigEndian.AppendUint32(result, uint32(len(part)))
		result = append(result, part...)
	}
	return result
}
