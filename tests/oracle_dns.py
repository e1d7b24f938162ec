"""A name server for one answer: `ADDRESS PORT` answers every question for an A record with 192.0.2.53."""
import socket
import sys

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    query, peer = s.recvfrom(2048)
    # The question: labels to an empty one, type and class.
    end = query.index(b"\0", 12) + 5
    header = query[:2] + b"\x85\x80\0\x01\0\x01\0\0\0\0"
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + bytes([192, 0, 2, 53])
    s.sendto(header + query[12:end] + answer, peer)
