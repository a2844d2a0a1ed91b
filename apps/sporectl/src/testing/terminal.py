"""Runs a command on a terminal of its own and acts on what it prints.

usage: terminal.py COLUMNS ROWS SCRIPT COMMAND...
SCRIPT is JSON: a list of [regular expression, action], taken in order: when the output since the last match
matches, the action is done. {"type": text} types, {"size": [columns, rows]} resizes, {"signal": name} sends
a signal to the command. Prints JSON: {"output", "code", "cooked": whether line editing and echo are on at the end}.
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios


def set_size(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


columns, rows, script, command = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4:]
master, slave = pty.openpty()
set_size(master, columns, rows)
pid = os.fork()
if pid == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.execvp(command[0], command)
ended = os.pidfd_open(pid)
output, since = b"", b""
while True:
    ready, _, _ = select.select([master, ended], [], [], 30)
    if not ready:
        os.kill(pid, signal.SIGKILL)
        output += b"\n[no output for 30 seconds]"
    if master in ready:
        data = os.read(master, 65536)
        output += data
        since += data
    elif ended in ready:
        break
    while script and (match := re.search(script[0][0].encode(), since, re.S)):
        _, action = script.pop(0)
        since = since[match.end():]
        if "type" in action:
            os.write(master, action["type"].encode())
        if "size" in action:
            set_size(master, *action["size"])
        if "signal" in action:
            os.kill(pid, getattr(signal, action["signal"]))
_, status = os.waitpid(pid, 0)
# The slave is held open here, so that the state of the terminal can be looked at afterwards.
local = termios.tcgetattr(slave)[3]
cooked = bool(local & termios.ICANON) and bool(local & termios.ECHO)
print(json.dumps({"output": output.decode(errors="replace"), "code": os.waitstatus_to_exitcode(status), "cooked": cooked}))
