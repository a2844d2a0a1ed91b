"""What the test of uniqueness clones beside testsource: one process that draws from everything that Python has.

Prints the mark of its page of progress, then draws until somebody connects to the port of its argument. That one says a
number and gets, as JSON, the values of the draws after it.
"""

import json
import mmap
import os
import random
import secrets
import socket
import ssl
import struct
import sys
import uuid

import sporelet_generation

KEPT = 1 << 14
LEAST, MOST = 2, 500

page = mmap.mmap(-1, 4096)
page[:16] = os.urandom(16)
print(page[:16].hex(), flush=True)

helpless = random.Random()
sources = {
    "uuid": lambda: uuid.uuid4().hex,
    "secrets": lambda: secrets.token_hex(16),
    "random": lambda: f"{random.getrandbits(128):032x}",
    "openssl": lambda: ssl.RAND_bytes(16).hex(),
    # Nobody reseeds this one: its values have to be the same in all clones.
    "helpless": lambda: f"{helpless.getrandbits(128):032x}",
}
values = {name: [None] * KEPT for name in sources}

asking = None
after = 0
listener = socket.create_server(("", int(sys.argv[1])))
listener.setblocking(False)
number = 0
while asking is None or number < after + LEAST:
    if asking is None:
        try:
            asking, _ = listener.accept()
            asking.setblocking(True)
            after = int(asking.makefile().readline())
        except BlockingIOError:
            pass
    number += 1
    struct.pack_into("<Q", page, 16, number)
    for name, draw in sources.items():
        sporelet_generation.reseed_if_cloned()
        values[name][number % KEPT] = draw()

if number >= after + KEPT:
    sys.exit("values were overwritten")
wanted = range(after + 1, min(number, after + MOST) + 1)
asking.sendall(json.dumps({name: [kept[n % KEPT] for n in wanted] for name, kept in values.items()}).encode())
asking.close()
