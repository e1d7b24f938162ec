"""The far end of a tunnel where the kernel has none: `ipip` or `gue PORT`. Takes packets from the kernel's own socket, which
has judged their outer headers, and gives what is inside back to the kernel by a TUN device, `t0`. GUE's variant 1, as
Linux's gue_udp_recv: the version behind UDP says what is inside."""
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"t0", IFF_TUN_NO_PI))
os.system("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.t0.rp_filter=0; ip link set t0 up")

if sys.argv[1] == "ipip":
    # Of a raw IPv4 socket packets come with their header, of an IPv6 one without.
    four = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4)
    six = socket.socket(socket.AF_INET, socket.SOCK_RAW, 41)
    sockets = {four: 20, six: 20}
    for protocol in (4, 41):
        sockets[socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol)] = 0
else:
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.bind(("::", int(sys.argv[2])))
    sockets = {udp: 0}

print("ready", flush=True)
while True:
    for ready in select.select(list(sockets), [], [])[0]:
        packet = ready.recv(65536)[sockets[ready] :]
        if packet and packet[0] >> 4 in (4, 6):
            os.write(tun, packet)
