"""The API's healthcheck: exit code 0 when it answers."""

import socket

with socket.create_connection(("127.0.0.1", 8080), timeout=5) as connection:
    connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
    raise SystemExit(0 if connection.recv(64).startswith(b"HTTP/1.1 200") else 1)
