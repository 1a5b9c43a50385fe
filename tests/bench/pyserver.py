#!/usr/bin/env python3
"""pyserver.py: the threaded server of the benchmark.

A thread per connection, as socketserver has it, with what a careful author
would add: a backlog that takes a burst, daemon threads, a lock around the
count, an orderly end (socketserver shuts the connection down for writing).
Same bytes as greet.  Prints the bound ADDRESS:PORT when clients may come.
"""
import socketserver
import sys
import threading

GREETING = (
    "Welcome ! You have connected to %s on port %d\r\n"
    "You are client #%d to connect to this server !\r\n"
    "Please press any key in your console, "
    "after that this server socket will close\r\n"
)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 4096

    def __init__(self, address, handler):
        super().__init__(address, handler)
        self.lock = threading.Lock()
        self.clients = 0

    def count(self):
        with self.lock:
            self.clients += 1
            return self.clients


class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        host, port = self.request.getsockname()
        greeting = GREETING % (host, port, self.server.count())
        self.request.sendall(greeting.encode())
        self.request.recv(64)


def main():
    host, _, port = (sys.argv[1:] or ["127.0.0.1:0"])[0].rpartition(":")
    with Server((host, int(port)), Greeter) as server:
        print("%s:%d" % server.server_address, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
