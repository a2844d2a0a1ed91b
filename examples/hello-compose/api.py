"""Counts visits in Redis and says so as JSON: GET / -> {"visits": 7, "hostname": "..."}.

Plain sockets instead of a framework: a clone's first answer takes as long as the code that it runs for the
first time, so there is little of it.
"""

import os
import socket

redis_address = (os.environ.get("REDIS_HOST", "redis"), 6379)
hostname = socket.gethostname()
redis = None


def increment(key):
    """INCR in Redis's own protocol (RESP): one line each way."""
    global redis
    for attempt in (1, 2):
        try:
            if redis is None:
                redis = socket.create_connection(redis_address, timeout=5)
            redis.sendall(b"INCR %s\r\n" % key)
            reply = b""
            while not reply.endswith(b"\r\n"):
                part = redis.recv(64)
                if not part:
                    raise OSError("Redis closed the connection")
                reply += part
            return int(reply[1:])
        except OSError:
            # Redis was restarted: once more on a new connection.
            redis = None
            if attempt == 2:
                raise


def answer(path):
    if path != "/":
        return "404 Not Found", '{"error": "there is only /"}'
    try:
        return "200 OK", '{"visits": %d, "hostname": "%s"}' % (increment(b"visits"), hostname)
    except OSError as error:
        return "503 Service Unavailable", '{"error": "no Redis: %s"}' % error


def serve(connection):
    connection.settimeout(5)
    request = b""
    while b"\r\n\r\n" not in request and len(request) < 16384:
        part = connection.recv(4096)
        if not part:
            return
        request += part
    words = request.split(b" ", 2)
    path = words[1].decode("latin-1") if len(words) == 3 else ""
    status, body = answer(path)
    head = "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    connection.sendall((head % (status, len(body) + 1) + body + "\n").encode())


listener = socket.create_server(("0.0.0.0", 8080), backlog=128)
print("listening on 8080", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        try:
            serve(connection)
        except OSError as error:
            print("a request failed:", error, flush=True)
