"""UDP with sequence numbers: `receive PORT` counts what comes until SIGTERM, `send ADDRESS PORT RATE SECONDS` sends."""
import signal
import socket
import struct
import sys
import time


def receive(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # SO_RCVBUFFORCE: beyond what the host allows by default.
    s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    s.bind(("", port))
    s.settimeout(0.2)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    seen, last, disordered = set(), -1, 0
    while not ended:
        try:
            data = s.recv(2048)
        except (TimeoutError, InterruptedError):
            continue
        (number,) = struct.unpack("!I", data[:4])
        disordered += number < last
        last = max(last, number)
        seen.add(number)
    print(f"received {len(seen)} of {last + 1}, {last + 1 - len(seen)} lost, {disordered} out of order")


def send(address, port, rate, seconds):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    start, sent = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        while sent < now * rate:
            s.sendto(struct.pack("!I", sent) + bytes(60), (address, port))
            sent += 1
        time.sleep(0.002)
    print(f"sent {sent}")


if sys.argv[1] == "receive":
    receive(int(sys.argv[2]))
else:
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
