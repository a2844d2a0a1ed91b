package uniqueness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The interface is set up by the classic ioctls (netdevice(7), arp(7)) rather than netlink: what is
// already right costs one system call to see.

// ifreq is struct ifreq: a name and a union.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	union [24]byte
}

func (r *ifreq) setIPv4(address netip.Addr) {
	r.union = [24]byte{}
	binary.NativeEndian.PutUint16(r.union[0:], unix.AF_INET)
	*(*[4]byte)(r.union[4:8]) = address.As4()
}

func (r *ifreq) ipv4() netip.Addr { return netip.AddrFrom4([4]byte(r.union[4:8])) }

// networkSettings are what SetNetwork was asked for.
type networkSettings struct{ mac, address, gateway string }

// SetNetwork gives the first network interface its MAC address, IPv4 address with prefix and default
// route, where they differ, and forgets the neighbours: a clone's gateway is another machine than that of
// the frozen one, with the same address.
func (l *Linux) SetNetwork(mac, address, gateway string) error {
	wanted := networkSettings{mac, address, gateway}
	if known := l.known; known != nil && l.socket >= 0 && known.address == address && known.gateway == gateway {
		return l.resume(wanted)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := l.configure(fd, wanted); err != nil {
		return err
	}
	l.known = &wanted
	return nil
}

// HasNetwork tells whether there is an interface that wants an identity.
func (l *Linux) HasNetwork() bool {
	_, err := firstInterface("/sys/class/net")
	return err == nil
}

// resume is for a clone, which finds everything as Prepare left it but for the MAC address. The address and
// the routes stay when that changes under an interface that is up.
func (l *Linux) resume(wanted networkSettings) error {
	if wanted.mac != l.known.mac && wanted.mac != "" {
		mac, err := parseMAC(wanted.mac)
		if err == nil {
			err = (&link{socket: l.socket, name: l.iface}).changeMAC(mac)
		}
		if err == unix.EBUSY {
			return l.configure(l.socket, wanted)
		} else if err != nil {
			return fmt.Errorf("set the MAC address of %s to %s: %w", l.iface, wanted.mac, err)
		}
	}
	l.known = &wanted
	return l.forgetGateway(wanted.gateway)
}

// Prepare makes sure that the network is as it was last set, and keeps what the same request needs again: of
// the neighbours, the gateway alone can come back until the freeze, because it is what a guest talks to.
func (l *Linux) Prepare() error {
	if l.known == nil {
		return nil
	}
	if l.socket < 0 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		l.socket = fd
	}
	if err := l.configure(l.socket, *l.known); err != nil {
		return err
	}
	// Run once, so that it is ready to run again.
	return l.forgetGateway(l.known.gateway)
}

func (l *Linux) forgetGateway(gateway string) error {
	address, err := netip.ParseAddr(gateway)
	if err != nil || l.socket < 0 {
		return nil
	}
	return (&link{socket: l.socket, name: l.iface}).forget(address)
}

func (l *Linux) configure(fd int, wanted networkSettings) error {
	mac, address, gateway := wanted.mac, wanted.address, wanted.gateway
	if l.iface == "" {
		name, err := firstInterface("/sys/class/net")
		if err != nil {
			return err
		}
		l.iface = name
	}
	link := &link{socket: fd, name: l.iface}
	if err := link.up("lo", true); err != nil {
		return err
	}
	if mac != "" {
		if err := link.setMAC(mac); err != nil {
			return fmt.Errorf("set the MAC address of %s to %s: %w", l.iface, mac, err)
		}
	}
	if address != "" {
		prefix, err := netip.ParsePrefix(address)
		if err != nil || !prefix.Addr().Is4() {
			return fmt.Errorf("%q is no IPv4 address with prefix length", address)
		}
		if err := link.setAddress(prefix); err != nil {
			return fmt.Errorf("set the address of %s to %s: %w", l.iface, address, err)
		}
	}
	if err := link.up(l.iface, true); err != nil {
		return err
	}
	if gateway != "" {
		if err := link.setGateway(gateway); err != nil {
			return fmt.Errorf("set the default route to %s: %w", gateway, err)
		}
	}
	return link.forgetNeighbours()
}

// firstInterface is the network device with the lowest index that is a device, not a bridge or veth.
func firstInterface(class string) (string, error) {
	entries, _ := os.ReadDir(class)
	first, lowest := "", math.MaxInt
	for _, entry := range entries {
		if _, err := os.Stat(class + "/" + entry.Name() + "/device"); err != nil {
			continue
		}
		text, _ := os.ReadFile(class + "/" + entry.Name() + "/ifindex")
		if index, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && index < lowest {
			first, lowest = entry.Name(), index
		}
	}
	if first == "" {
		return "", errors.New("the guest has no network interface")
	}
	return first, nil
}

type link struct {
	socket int
	name   string
}

func (l *link) call(request uint, r *ifreq) error { return ioctl(l.socket, request, unsafe.Pointer(r)) }

func ioctl(fd int, request uint, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

func (l *link) request(name string) *ifreq {
	r := &ifreq{}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	return r
}

func (l *link) up(name string, up bool) error {
	r := l.request(name)
	if err := l.call(unix.SIOCGIFFLAGS, r); err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	flags := binary.NativeEndian.Uint16(r.union[:])
	wanted := flags &^ unix.IFF_UP
	if up {
		wanted |= unix.IFF_UP
	}
	if wanted == flags {
		return nil
	}
	binary.NativeEndian.PutUint16(r.union[:], wanted)
	if err := l.call(unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	return nil
}

func (l *link) setMAC(text string) error {
	mac, err := parseMAC(text)
	if err != nil {
		return err
	}
	r := l.request(l.name)
	if err := l.call(unix.SIOCGIFHWADDR, r); err != nil {
		return err
	}
	if [6]byte(r.union[2:8]) == mac {
		return nil
	}
	if err := l.changeMAC(mac); err != unix.EBUSY {
		return err
	}
	// A driver that changes it only while the interface is down; the routes come back below.
	if err := l.up(l.name, false); err != nil {
		return err
	}
	if err := l.changeMAC(mac); err != nil {
		return err
	}
	return l.up(l.name, true)
}

// changeMAC asks for the change alone; EBUSY is a driver that does it only while the interface is down.
func (l *link) changeMAC(mac [6]byte) error {
	r := l.request(l.name)
	binary.NativeEndian.PutUint16(r.union[:], unix.ARPHRD_ETHER)
	copy(r.union[2:8], mac[:])
	return l.call(unix.SIOCSIFHWADDR, r)
}

func parseMAC(text string) (mac [6]byte, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != len(mac) {
		return mac, errors.New("not of the form aa:bb:cc:dd:ee:ff")
	}
	for i, part := range parts {
		value, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return mac, errors.New("not of the form aa:bb:cc:dd:ee:ff")
		}
		mac[i] = byte(value)
	}
	return mac, nil
}

func (l *link) setAddress(prefix netip.Prefix) error {
	r := l.request(l.name)
	r.setIPv4(netip.IPv4Unspecified())
	if err := l.call(unix.SIOCGIFADDR, r); err != nil && err != unix.EADDRNOTAVAIL {
		return err
	}
	mask := l.request(l.name)
	mask.setIPv4(netip.IPv4Unspecified())
	if err := l.call(unix.SIOCGIFNETMASK, mask); err != nil && err != unix.EADDRNOTAVAIL {
		return err
	}
	wantedMask := netmask(prefix.Bits())
	if r.ipv4() == prefix.Addr() && mask.ipv4() == wantedMask {
		return nil
	}
	r.setIPv4(prefix.Addr())
	if err := l.call(unix.SIOCSIFADDR, r); err != nil {
		return err
	}
	mask.setIPv4(wantedMask)
	return l.call(unix.SIOCSIFNETMASK, mask)
}

func netmask(bits int) netip.Addr {
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], uint32(uint64(math.MaxUint32)<<(32-bits)))
	return netip.AddrFrom4(mask)
}

// rtentry is struct rtentry (linux: include/uapi/linux/route.h) on 64-bit machines.
type rtentry struct {
	_                    uint64
	dst, gateway, netmsk [16]byte
	flags                uint16
	_                    [6]byte
	_, _                 uint64
	metric               int16
	_                    [6]byte
	device               *byte
	_                    [3]uint64
}

func sockaddr(address netip.Addr) (raw [16]byte) {
	binary.NativeEndian.PutUint16(raw[0:], unix.AF_INET)
	*(*[4]byte)(raw[4:8]) = address.As4()
	return raw
}

func (l *link) setGateway(text string) error {
	gateway, err := netip.ParseAddr(text)
	if err != nil || !gateway.Is4() {
		return errors.New("it is no IPv4 address")
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return err
	}
	name, _ := unix.BytePtrFromString(l.name)
	for _, old := range defaultGateways(string(routes), l.name) {
		if old == gateway {
			return nil
		}
		stale := rtentry{dst: sockaddr(netip.IPv4Unspecified()), netmsk: sockaddr(netip.IPv4Unspecified()), gateway: sockaddr(old), flags: unix.RTF_UP | unix.RTF_GATEWAY, device: name}
		if err := ioctl(l.socket, unix.SIOCDELRT, unsafe.Pointer(&stale)); err != nil && err != unix.ESRCH {
			return err
		}
	}
	route := rtentry{dst: sockaddr(netip.IPv4Unspecified()), netmsk: sockaddr(netip.IPv4Unspecified()), gateway: sockaddr(gateway), flags: unix.RTF_UP | unix.RTF_GATEWAY, device: name}
	if err := ioctl(l.socket, unix.SIOCADDRT, unsafe.Pointer(&route)); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// defaultGateways reads /proc/net/route, in which addresses are hexadecimal in the machine's byte order.
func defaultGateways(routes, iface string) []netip.Addr {
	var gateways []netip.Addr
	for line := range strings.Lines(routes) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[0] != iface || fields[1] != "00000000" || fields[7] != "00000000" {
			continue
		}
		if value, err := strconv.ParseUint(fields[2], 16, 32); err == nil && value != 0 {
			var raw [4]byte
			binary.NativeEndian.PutUint32(raw[:], uint32(value))
			gateways = append(gateways, netip.AddrFrom4(raw))
		}
	}
	return gateways
}

// arpreq is struct arpreq (linux: include/uapi/linux/if_arp.h).
type arpreq struct {
	protocol, hardware [16]byte
	flags              int32
	netmask            [16]byte
	device             [16]byte
}

func (l *link) forgetNeighbours() error {
	table, err := os.ReadFile("/proc/net/arp")
	if err != nil {
		return err
	}
	for _, neighbour := range neighbours(string(table), l.name) {
		if err := l.forget(neighbour); err != nil {
			return err
		}
	}
	return nil
}

func (l *link) forget(neighbour netip.Addr) error {
	r := arpreq{protocol: sockaddr(neighbour)}
	copy(r.device[:15], l.name)
	if err := ioctl(l.socket, unix.SIOCDARP, unsafe.Pointer(&r)); err != nil && err != unix.ENXIO && err != unix.ENOENT {
		return fmt.Errorf("forget neighbour %s: %w", neighbour, err)
	}
	return nil
}

// neighbours reads /proc/net/arp: address, type, flags, hardware address, mask, device.
func neighbours(table, iface string) []netip.Addr {
	var result []netip.Addr
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[5] == iface {
			if address, err := netip.ParseAddr(fields[0]); err == nil {
				result = append(result, address)
			}
		}
	}
	return result
}
