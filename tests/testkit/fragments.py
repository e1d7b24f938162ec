"""Sends an ICMP echo request in two fragments over a raw socket: `ORDER SRC DST`; prints whether it was answered.

ORDER: first (in order), last (the later one first), overlap (the second one over the first), tiny (headers cut)."""
import os
import socket
import struct
import sys
import time


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fragment(src, dst, ident, offset, more, payload):
    field = (0x2000 if more else 0) | offset // 8
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, field, 64, 1, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


order, src, dst = sys.argv[1], socket.inet_aton(sys.argv[2]), socket.inet_aton(sys.argv[3])
ident, number = os.getpid() & 0xFFFF, 1
body = bytes(range(64))
echo = struct.pack("!BBHHH", 8, 0, 0, ident, number) + body
echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
first = fragment(src, dst, ident, 0, True, echo[:32])
later = fragment(src, dst, ident, 32, False, echo[32:])
if order == "overlap":
    later = fragment(src, dst, ident, 24, False, echo[24:])
if order == "tiny":
    # Eight bytes is the least that a fragment can have: TCP's flags are not in it.
    first = fragment(src, dst, ident, 0, True, bytes(8))[:9] + b"\x06" + fragment(src, dst, ident, 0, True, bytes(8))[10:]
    head = first[:10] + b"\0\0" + first[12:20]
    first = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + bytes(8)
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
answers = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
answers.settimeout(0.2)
packets = [later, first] if order == "last" else [first, later]
for packet in packets:
    out.sendto(packet, (sys.argv[3], 0))
    time.sleep(0.05)
end = time.time() + 1.0
while time.time() < end:
    try:
        data = answers.recv(2048)
    except TimeoutError:
        continue
    if data[20] == 0 and struct.unpack("!H", data[24:26])[0] == ident:
        print("answered")
        break
else:
    print("silence")
