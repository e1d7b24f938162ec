"""Numbered datagrams between two hosts: `echo ADDRESS PORT` answers, `ask ADDRESS PORT FLOWS ROUNDS` asks and says as JSON
what came back: `sent`, `lost`, `disordered`."""

import json
import select
import socket
import sys

# An emulated VF loses what comes in larger bursts, without counting it.
IN_FLIGHT = 64
BURST = 4
PATIENCE_SECONDS = 5


def echo(address, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, int(port)))
    while True:
        data, sender = server.recvfrom(2048)
        server.sendto(data, sender)


def ask(address, port, flows, rounds):
    sockets = []
    for _ in range(int(flows)):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.connect((address, int(port)))
        one.setblocking(False)
        sockets.append(one)
    sent = lost = disordered = 0
    group = IN_FLIGHT // BURST
    for turn in range(int(rounds)):
        for first in range(0, len(sockets), group):
            some = sockets[first : first + group]
            for number in range(turn * BURST, (turn + 1) * BURST):
                for one in some:
                    one.send(number.to_bytes(4, "big") + bytes(60))
            sent += BURST * len(some)
            wanted = {one: turn * BURST for one in some}
            missing = BURST * len(some)
            while missing > 0:
                ready = select.select(some, [], [], PATIENCE_SECONDS)[0]
                if not ready:
                    break
                for one in ready:
                    number = int.from_bytes(one.recv(2048)[:4], "big")
                    if number < turn * BURST:
                        # It was late, and is counted as lost.
                        continue
                    missing -= 1
                    disordered += number < wanted[one]
                    wanted[one] = number + 1
            lost += missing
    print(json.dumps({"sent": sent, "lost": lost, "disordered": disordered}))


if __name__ == "__main__":
    {"echo": echo, "ask": ask}[sys.argv[1]](*sys.argv[2:])
