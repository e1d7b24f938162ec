"""Segments that are none of their connection, in one that is: `serve ADDRESS PORT FILE` echoes and writes to FILE which
of them it sees; `attack ADDRESS PORT` opens a connection, sends them in it, and checks that it still works."""
import socket
import struct
import sys
import threading
import time

TCP = 6
RST, ACK = 4, 16


def packets():
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sniffer.bind(("eth0", 0))
    sniffer.settimeout(5)
    return sniffer


def serve(address, port, file):
    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

    def watch(sniffer):
        while True:
            try:
                frame = sniffer.recv(2048)
            except TimeoutError:
                continue
            at = frame.find(b"INJECTED-")
            if at >= 0:
                with open(file, "a") as seen:
                    seen.write(frame[at + 9:].split(b".")[0].decode() + "\n")

    threading.Thread(target=watch, args=(packets(),), daemon=True).start()
    server = socket.create_server((address, port))
    while True:
        connection, _ = server.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def segment(like, seq, ack, flags, payload):
    """A frame with the ends of the frame `like`."""
    ip = bytearray(like[14:34])
    tcp = like[34:38] + struct.pack("!IIBBHHH", seq % 2**32, ack % 2**32, 5 << 4, flags, 500, 0, 0) + payload
    pseudo = bytes(ip[12:20]) + struct.pack("!BBH", 0, TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip[2:4] = struct.pack("!H", 20 + len(tcp))
    ip[10:12] = b"\0\0"
    ip[10:12] = struct.pack("!H", checksum(bytes(ip)))
    return like[:14] + bytes(ip) + tcp


def attack(address, port):
    sniffer = packets()
    connection = socket.create_connection((address, port), timeout=5)
    own = connection.getsockname()[1]

    def exchange(text):
        connection.sendall(text)
        got = b""
        while len(got) < len(text):
            got += connection.recv(65536)
        assert got == text, got

    exchange(b"x" * 64)
    # What was sent last acknowledges the echo: its numbers are those of the next segment.
    last, until = None, time.time() + 0.5
    sniffer.settimeout(0.5)
    while time.time() < until:
        try:
            frame = sniffer.recv(2048)
        except TimeoutError:
            break
        if frame[12:14] == b"\x08\0" and frame[23] == TCP and struct.unpack("!H", frame[34:36])[0] == own:
            last = frame
    seq, ack = struct.unpack("!II", last[38:46])
    length = struct.unpack("!H", last[16:18])[0] - 20 - 4 * (last[46] >> 4)
    seq += length
    far = 1 << 30
    for name, at, acknowledged, flags in [
        ("within", seq - 64, ack, ACK),
        ("above", seq + far, ack, ACK),
        ("below", seq - far, ack, ACK),
        ("unsent", seq, ack + far, ACK),
        ("questioned-reset", seq + 100, ack, RST | ACK),
        ("reset", seq - 1, ack, RST | ACK),
    ]:
        sniffer.send(segment(last, at, acknowledged, flags, f"INJECTED-{name}.".encode()))
    time.sleep(0.5)
    exchange(b"still here")
    print("the connection works")


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
else:
    attack(sys.argv[2], int(sys.argv[3]))
