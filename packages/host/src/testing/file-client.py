"""Uses a file in a process of its own, as told by lines of JSON on stdin; answers each with a line of JSON.

usage: file-client.py PATH
["read", offset, bytes] -> hex; ["map", offset, bytes] (through a private mapping) -> hex;
["write", offset, hex]; ["discard", offset, bytes] (punches a hole); ["seek", offset, "data" | "hole"] -> offset.
What fails is answered with {"error": its name}.
"""
import ctypes
import errno
import json
import mmap
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(fd).st_size
mapping = None


def discard(offset, count):
    keep_size_and_punch_hole = 3
    if libc.fallocate(fd, keep_size_and_punch_hole, ctypes.c_int64(offset), ctypes.c_int64(count)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def act(what, offset, argument):
    global mapping
    if what == "read":
        return os.pread(fd, argument, offset).hex()
    if what == "map":
        if mapping is None:
            mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return mapping[offset:offset + argument].hex()
    if what == "write":
        return os.pwrite(fd, bytes.fromhex(argument), offset)
    if what == "discard":
        return discard(offset, argument)
    return os.lseek(fd, offset, os.SEEK_DATA if argument == "data" else os.SEEK_HOLE)


print(json.dumps("open"), flush=True)
for line in sys.stdin:
    try:
        answer = act(*json.loads(line))
    except OSError as error:
        answer = {"error": errno.errorcode[error.errno]}
    print(json.dumps(answer), flush=True)
