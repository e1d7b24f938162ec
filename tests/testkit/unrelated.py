"""Sends an ICMP error about a packet that nobody sent: `SRC DST`."""
import socket
import struct
import sys


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


src, dst = (socket.inet_aton(a) for a in sys.argv[1:3])
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, dst, src)
quote = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + struct.pack("!HHHH", 4444, 5555, 8, 0)
error = struct.pack("!BBHI", 3, 3, 0, 0) + quote
error = error[:2] + struct.pack("!H", checksum(error)) + error[4:]
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(error, (sys.argv[2], 0))
