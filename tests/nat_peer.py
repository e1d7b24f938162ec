"""Tells who is asking. `serve ADDRESS PORT` answers TCP and UDP with the address and port that it sees;
`ask PROTOCOL FROM-ADDRESS FROM-PORT ADDRESS PORT...` asks one server after the other from one port and prints the answers;
`many ADDRESS PORT COUNT` asks from COUNT ports of UDP at once and prints how many were answered and how many refused;
`wait FROM-ADDRESS FROM-PORT ADDRESS PORT` asks, prints the answer, and then the first datagram of anybody else;
`send ADDRESS PORT` sends one datagram and prints whether an answer came."""
import select
import socket
import sys
import threading
import time


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def seen(peer):
    return f"{peer[0]} {peer[1]}".encode()


def serve(address, port):
    tcp = socket.socket(family(address), socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind((address, port))
    udp = socket.socket(family(address), socket.SOCK_DGRAM)
    udp.bind((address, port))
    tcp.listen(512)

    def answer_udp():
        while True:
            _, peer = udp.recvfrom(2048)
            udp.sendto(seen(peer), peer)

    threading.Thread(target=answer_udp, daemon=True).start()
    while True:
        connection, peer = tcp.accept()
        connection.sendall(seen(peer))
        connection.close()


def socket_of(protocol, address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.settimeout(2)
    return s


def ask(protocol, source, sport, *servers):
    for address, port in zip(servers[::2], servers[1::2]):
        s = socket_of(protocol, source, int(sport))
        try:
            s.connect((address, int(port)))
            if protocol == "udp":
                s.send(b"?")
            print(s.recv(2048).decode())
        except OSError as why:
            print("refused" if why.errno else "silence")
        s.close()


def many(address, port, count):
    sockets = [socket.socket(family(address), socket.SOCK_DGRAM) for _ in range(count)]
    answered = refused = 0
    for s in sockets:
        s.connect((address, port))
        s.settimeout(0.05)
        for _ in range(2):
            try:
                s.send(b"?")
                s.recv(2048)
                answered += 1
                break
            except TimeoutError:
                pass
            except OSError:
                refused += 1
                break
    print(answered, refused)


def wait(source, sport, address, port):
    s = socket_of("udp", source, sport)
    s.sendto(b"?", (address, port))
    print(s.recvfrom(2048)[0].decode(), flush=True)
    end = time.monotonic() + 20
    while select.select([s], [], [], max(0, end - time.monotonic()))[0]:
        data, peer = s.recvfrom(2048)
        if peer != (address, port):
            s.sendto(b"!", peer)
            print(peer[0], peer[1], flush=True)
            return


def send(address, port):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(1)
    s.sendto(b"?", (address, port))
    try:
        print(s.recvfrom(2048)[1][0])
    except OSError:
        print("silence")


command, *words = sys.argv[1:]
if command == "ask":
    ask(*words)
else:
    numbers = [int(w) if w.isdigit() else w for w in words]
    {"serve": serve, "many": many, "wait": wait, "send": send}[command](*numbers)
