"""Reseeds the generators that a Python process keeps in its own memory when its machine is a new clone.

    import sporelet_generation
    sporelet_generation.reseed_if_cloned()      # before each draw from random or ssl: compares 36 bytes of memory
    sporelet_generation.watch()                 # or: a thread that does it soon after each resume

os.urandom, secrets, uuid.uuid4 and random.SystemRandom ask the kernel each time and need none of this. In a container
the directory /run/sporelet has to be there: `volumes: ["/run/sporelet:/run/sporelet:ro"]`.
"""

import mmap
import os
import random
import threading

GENERATION = "/run/sporelet/generation-id"
NEXT_GENERATION = "/run/sporelet/next-generation"

with open(GENERATION, "rb") as _file:
    # The agent writes in place: the mapping shows the new id before any program of the clone runs again.
    _mapped = mmap.mmap(_file.fileno(), 36, prot=mmap.PROT_READ)
_known = _mapped[:]
_callbacks = []


def on_clone(callback):
    """Has callback() called, in addition to the reseeding, in each new clone."""
    _callbacks.append(callback)


def reseed():
    """Gives `random` and OpenSSL fresh randomness from the kernel."""
    random.seed()
    try:
        import ssl
    except ImportError:
        pass
    else:
        ssl.RAND_add(os.urandom(48), 48)
    for callback in _callbacks:
        callback()


def reseed_if_cloned():
    """Reseeds if this is another generation than at the last call. Returns whether it did."""
    global _known
    current = _mapped[:]
    if current == _known:
        return False
    _known = current
    reseed()
    return True


def watch():
    """Reseeds in a thread. What the process draws in the moment before, it may draw in its siblings too."""

    def loop():
        while True:
            with open(NEXT_GENERATION, "rb") as generation:
                # For one that began before that was opened; one that begins after it ends the read.
                reseed_if_cloned()
                generation.read()

    threading.Thread(target=loop, name="sporelet-generation", daemon=True).start()
