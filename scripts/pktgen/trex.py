#!/usr/bin/env python3
"""TRex, stateless: port 0 sends UDP with 10,000 five-tuples, port 1 counts what comes back.

Prints offered, received, lost, Mpps. Run it where TRex's automation folder is on PYTHONPATH; see README.md.
"""

import argparse

from trex.stl.api import (
    IP, STLClient, STLPktBuilder, STLScVmRaw, STLStream, STLTXCont, STLVmFixIpv4, STLVmFlowVar, STLVmWrFlowVar,
    Ether, UDP,
)


def stream(size, flows):
    """One stream: sources 10.0.0.1 and on, a flow each, checksums fixed by the generator."""
    packet = Ether() / IP(src="10.0.0.1", dst="198.18.0.1") / UDP(sport=1024, dport=53)
    # The generator's NIC adds the four bytes of the frame's checksum.
    packet = packet / (b"\0" * max(0, size - 4 - len(packet)))
    first = 0x0A000001
    vm = STLScVmRaw([
        STLVmFlowVar(name="src", min_value=first, max_value=first + flows - 1, size=4, op="inc"),
        STLVmWrFlowVar(fv_name="src", pkt_offset="IP.src"),
        STLVmFixIpv4(offset="IP"),
    ])
    return STLStream(packet=STLPktBuilder(pkt=packet, vm=vm), mode=STLTXCont())


def main():
    """Sends, waits, prints."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--server", default="127.0.0.1")
    arguments.add_argument("--rate", default="100%", help="of the line, or 10mpps")
    arguments.add_argument("--seconds", type=int, default=30)
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--flows", type=int, default=10_000)
    options = arguments.parse_args()
    client = STLClient(server=options.server)
    client.connect()
    try:
        client.reset(ports=[0, 1])
        client.add_streams(stream(options.size, options.flows), ports=[0])
        client.clear_stats()
        client.start(ports=[0], mult=options.rate, duration=options.seconds)
        client.wait_on_traffic(ports=[0])
        stats = client.get_stats()
    finally:
        client.disconnect()
    offered, received = stats[0]["opackets"], stats[1]["ipackets"]
    rate = received / options.seconds / 1e6
    print(f"offered {offered}, received {received}, lost {offered - received}, {rate:.2f} Mpps")


if __name__ == "__main__":
    main()
