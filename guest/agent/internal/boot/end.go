package boot

import "golang.org/x/sys/unix"

// End restarts the machine, which ends its VMM process: guests run with reboot=t, and the VMM treats a
// restart as the end (QEMU: -no-reboot). It does not return.
func End() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}
