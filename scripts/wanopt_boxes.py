"""What two boxes of a WAN optimizer take of memory, as the kernel counts it: two nfv on one machine, a link of net_memif.

    wanopt_boxes.py NFV FOLDER TEXT   sends the file TEXT through both for some seconds, and prints what each took
"""

import ipaddress
import json
import os
import re
import subprocess
import sys
import time

import ids_load

# Of each side of each peer, MiB: less than the text, so that it is full and begins anew with each round of it.
MEMORY = 32
# What a box takes whatever its `memory` is, at most (docs/wanopt.md): compressors, and what waits.
BESIDES = 8
PAYLOAD = 1_400
SECONDS = 6
LINK = "socket={}/wan.sock,socket-abstract=no,bsize=2048,rsize=11"


def capture(text, path):
    """The text as UDP datagrams from one site to the other, of 64 flows."""
    with open(text, "rb") as file, open(path, "wb") as out:
        out.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        number = 0
        while payload := file.read(PAYLOAD):
            length = 28 + len(payload)
            ip = bytes.fromhex("4500") + length.to_bytes(2, "big") + bytes.fromhex("0000000040110000")
            ip += ipaddress.IPv4Address("10.99.0.1").packed + ipaddress.IPv4Address("10.99.0.129").packed
            ip = ip[:10] + ids_load.checksum(ip) + ip[12:]
            udp = b"".join(n.to_bytes(2, "big") for n in (4_000 + number % 64, 5_000, length - 20, 0))
            frame = bytes.fromhex("0200000000020200000000010800") + ip + udp + payload
            out.write(bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame)
            number += 1


def chain(path, ports, optimizes, local, peer, prefix):
    """A box's chain file."""
    opt = f"""functions:
  opt: {{ type: wanopt, local: {local}, memory: {MEMORY}MiB, peers: [ {{ name: peer, address: {peer}, prefixes: {prefix} }} ] }}
"""
    with open(path, "w") as file:
        file.write(f"""workers: {{ idle: pause }}
ports:
{ports}
{opt if optimizes else ""}chains:
  site: {{ from: lan, through: [ {"opt" if optimizes else ""} ], to: wan }}
""")
    return path


class Box:
    """An nfv that runs."""

    def __init__(self, nfv, lcores, memory, path):
        self.nfv, self.socket = nfv, f"{path}.sock"
        words = [nfv, "run", "--lcores", lcores, "--no-pci", *memory, "--", path, "--control", self.socket]
        quiet = {**os.environ, "NFV_LOG": "error"}
        self.process = subprocess.Popen(words, env=quiet, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + 30
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > ends:
                sys.exit(f"{' '.join(words)}: does not start")
            time.sleep(0.05)

    def ctl(self, *words):
        """What `nfv ctl` prints."""
        done = subprocess.run([self.nfv, "ctl", *words, "--control", self.socket], check=True, capture_output=True, text=True)
        return done.stdout

    def count(self, name):
        """One of the optimizer's counters; 0 where there is none."""
        counters = json.loads(self.ctl("stats", "--json"))["counters"]
        return sum(c["value"] for c in counters if ["counter", name] in c["labels"])

    def resident(self):
        """Bytes."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1))


def run(nfv, folder, memory, optimizes):
    """Bytes of memory of the sending box and of the receiving one, and bytes of packets that became messages and came out."""
    a = f"""  lan: {{ device: "net_pcap0,rx_pcap={folder}/text.pcap,infinite_rx=1", mempool-size: 65535 }}
  wan: "net_memif0,role=server,{LINK.format(folder)}\""""
    b = f"""  wan: "net_memif0,role=client,{LINK.format(folder)}"
  lan: "net_null0,no-rx=1\""""
    a = chain(f"{folder}/a.yaml", a, optimizes, "192.0.2.1", "192.0.2.2", "10.99.0.128/25")
    b = chain(f"{folder}/b.yaml", b, optimizes, "192.0.2.2", "192.0.2.1", "10.99.0.0/25")
    boxes = [Box(nfv, "0@0,1@0", memory, a), Box(nfv, "0@1,1@1", memory, b)]
    time.sleep(SECONDS)
    sizes = [box.resident() for box in boxes]
    passed = [boxes[0].count("encoded_bytes"), boxes[1].count("decoded_bytes")]
    for box in boxes:
        box.ctl("quit")
        box.process.wait()
    return sizes, passed


def measure(nfv, folder, memory):
    """What the optimizers take: what the boxes have more than boxes with nothing in their chain, in MiB."""
    without, _ = run(nfv, folder, memory, False)
    with_, passed = run(nfv, folder, memory, True)
    sizes = [(size - least) / (1 << 20) for size, least in zip(with_, without)]
    # Several times what it has room for, or this says nothing.
    if min(passed) < 4 * MEMORY << 20:
        sys.exit(f"wanopt: only {passed} bytes were encoded and decoded in {SECONDS} s")
    return {"encoder_mib": sizes[0], "decoder_mib": sizes[1]}


def main(nfv, folder, text):
    capture(text, f"{folder}/text.pcap")
    print(json.dumps(measure(nfv, folder, ["--no-huge", "-m", "1024"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
