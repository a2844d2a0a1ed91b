"""What the test of uniqueness clones beside testsource: a process that draws from everything that Python has.

    sources.py PORT          reseeds before each draw (sporelet_generation.reseed_if_cloned)
    sources.py PORT watch    reseeds in a thread (sporelet_generation.watch); what it draws before that is its siblings' too

Prints the mark of its page of progress, then draws until somebody connects to the port. That one says a number and gets,
as JSON, the values of the draws after it, and when it watches, after it was told of its generation.
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

watches = sys.argv[2:] == ["watch"]
helpless = random.Random()
sources = {
    "random": lambda: f"{random.getrandbits(128):032x}",
    "openssl": lambda: ssl.RAND_bytes(16).hex(),
}
if not watches:
    sources |= {
        "uuid": lambda: uuid.uuid4().hex,
        "secrets": lambda: secrets.token_hex(16),
        # Nobody reseeds this one: its values have to be the same in all clones.
        "helpless": lambda: f"{helpless.getrandbits(128):032x}",
    }
values = {name: [None] * KEPT for name in sources}

asking = None
after = 0
# The draw that was under way when the last generation was told of.
told = 0
listener = socket.create_server(("", int(sys.argv[1])))
listener.setblocking(False)
# Whoever reads this may freeze the guest at once: a clone has to answer.
print(page[:16].hex(), flush=True)
number = 0


# The first values of this generation, from the draw on with this number: whoever asks may come late.
early = {name: [] for name in sources}
early_from = 0


def begin(first):
    global early, early_from
    early, early_from = {name: [] for name in sources}, first


def tell():
    global told
    told = number
    begin(number + 1)


if watches:
    sporelet_generation.on_clone(tell)
    sporelet_generation.watch()


def first():
    """The number of the draw before the first that counts; None as long as that is not known."""
    if not watches:
        return after
    # A generation of before the freeze was told of before that.
    return told if told >= after else None


while asking is None or first() is None or number < first() + LEAST:
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
        if not watches and sporelet_generation.reseed_if_cloned():
            # What this draw gave before is of the generation before.
            begin(number + 1)
        value = values[name][number % KEPT] = draw()
        if number >= early_from and len(early[name]) < MOST:
            early[name].append(value)

if early_from > first():
    answer = early
elif number < first() + KEPT:
    wanted = range(first() + 1, min(number, first() + MOST) + 1)
    answer = {name: [kept[n % KEPT] for n in wanted] for name, kept in values.items()}
else:
    sys.exit("values were overwritten")
asking.sendall(json.dumps(answer).encode())
asking.close()
