"""The promised figures: runs nfv bench and dpdk-testpmd by turns, and compares medians. Called by bench.sh."""

import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

NFV = "target/release/nfv"
ROUNDS = 5
SECONDS = 3


def huge_pages():
    """EAL's options for memory: huge pages when there are enough of them."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"HugePages_Free:\s+(\d+)", file.read()).group(1))
    return [] if free >= 256 else ["--no-huge", "-m", "1024"]


def nfv(chain, lcores, memory, more=()):
    """One run of nfv bench, as the object that it prints."""
    eal = [*lcores, "--no-pci", *memory]
    words = [NFV, "bench", *eal, "--", chain, "--json", "--seconds", str(SECONDS), *more]
    environment = {**os.environ, "NFV_LOG": "error"}
    return json.loads(subprocess.run(words, check=True, capture_output=True, env=environment).stdout)


def testpmd(capture, memory):
    """Mpps of dpdk-testpmd in mac mode, one way, on the devices that nfv bench uses."""
    words = ["dpdk-testpmd", "-l", "0,1", "--no-pci", "--file-prefix", f"bench-{os.getpid()}", *memory]
    words += ["--vdev", f"net_pcap0,rx_pcap={capture},infinite_rx=1", "--vdev", "net_null1,no-rx=1"]
    words += ["--", "--forward-mode=mac", "--auto-start", "--nb-cores=1", "--total-num-mbufs=32768"]
    words += ["--stats-period", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(SECONDS + 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    rates = [int(n) for n in re.findall(rb"Tx-pps:\s+(\d+)", out)]
    # The first second is not a whole one. Port 0 sends nothing.
    return statistics.median(sorted(rates)[-SECONDS + 1:]) / 1e6


def chains(folder):
    """Chain files of firewalls with 10 and 10,000 rules, whose last rule lets the traffic through."""
    files = {}
    for count in (10, 10_000):
        files[count] = f"{folder}/firewall-{count}.yaml"
        with open(files[count], "w") as file:
            file.write('ports: { lan: net_null0, wan: "net_null1,no-rx=1" }\n')
            file.write("functions:\n  edge:\n    type: firewall\n    rules:\n")
            for i in range(count - 1):
                a, b = i >> 8 & 255, i & 255
                file.write(f"      - {{ deny: tcp, src: 172.{16 + i % 16}.{a}.{b}, dport: {1000 + i} }}\n")
            file.write("      - { allow: udp, dport: 53 }\n")
            file.write("chains: { through: { from: lan, through: [edge], to: wan } }\n")
    return files


def capture_of_flows(path, flows=10_000):
    """The traffic that nfv bench makes by default, for testpmd: UDP, 64 bytes with checksum, so many flows."""
    with open(path, "wb") as file:
        file.write(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
        for i in range(flows):
            src = bytes([10, i >> 16 & 255, i >> 8 & 255, i & 255])
            dst = bytes([198, 18, 0, 1 + i % 250])
            ip = bytes.fromhex("4500002e00000000401100000000") [:12] + src + dst
            udp = (1024 + i % 60000).to_bytes(2, "big") + b"\0\x35\0\x1a\0\0"
            frame = bytes.fromhex("0200000000000210203040500800") + ip + udp + bytes(18)
            file.write(bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame)


def main():
    memory = huge_pages()
    one, two = ["-l", "0,1"], ["--lcores", "0@0,1@0,2@1"]
    runs = {name: [] for name in ("forward", "testpmd", "firewall 10", "firewall 10000", "one", "two", "router")}
    with tempfile.TemporaryDirectory() as folder:
        files, capture = chains(folder), f"{folder}/flows.pcap"
        capture_of_flows(capture)
        for _ in range(ROUNDS):
            runs["forward"].append(nfv("chains/forward.yaml", one, memory))
            runs["testpmd"].append({"mpps": testpmd(capture, memory)})
            runs["firewall 10"].append(nfv(files[10], one, memory))
            runs["firewall 10000"].append(nfv(files[10_000], one, memory))
            runs["one"].append(nfv("chains/forward.yaml", one, memory))
            runs["two"].append(nfv("chains/forward.yaml", two, memory))
            runs["router"].append(nfv("chains/route.yaml", one, memory, ["--traffic", "udp,dst=192.0.2.1"]))
    print(f"{platform.node()}, {os.cpu_count()} CPUs, {'ordinary' if memory else 'huge'} pages, "
          f"{ROUNDS} rounds of {SECONDS} s by turns; UDP, 64 bytes, 10,000 flows; medians\n")
    print(f"{'':<18}{'Mpps':>9}{'least':>9}{'most':>9}{'ns/packet':>11}{'above I/O':>11}{'p99 ns':>9}")
    for name, list_ in runs.items():
        rates = [r["mpps"] for r in list_]
        middle = statistics.median(rates)
        more = ""
        if "ceiling_mpps" in list_[0]:
            clocks = statistics.median(r["clocks_above_ceiling"] for r in list_)
            p99 = statistics.median(r["latency_ns"]["p99"] for r in list_)
            more = f"{statistics.median(r['ns_per_packet'] for r in list_):>11.1f}{clocks:>8.0f} ck{p99:>9.0f}"
        print(f"{name:<18}{middle:>9.2f}{min(rates):>9.2f}{max(rates):>9.2f}{more}")
    rate = {name: statistics.median(r["mpps"] for r in list_) for name, list_ in runs.items()}
    promises = [
        ("forward / testpmd mac", rate["forward"] / rate["testpmd"], 0.75),
        ("firewall, 10,000 rules / 10", rate["firewall 10000"] / rate["firewall 10"], 0.5),
    ]
    # A virtual machine's CPUs may be threads of one core for a while: then nothing gets twice as much done by two, and
    # the same I/O without a chain shows it. Only rounds in which that doubled say something of the chain.
    pairs = [(b["mpps"] / a["mpps"], b["ceiling_mpps"] / a["ceiling_mpps"]) for a, b in zip(runs["one"], runs["two"])]
    whole = [ratio for ratio, bare in pairs if bare >= 1.6]
    if whole:
        promises.append(("two workers / one", statistics.median(whole), 1.8))
    print()
    for name, ratio, least in promises:
        print(f"{name:<32}{ratio:>6.2f}   promised {least:.2f}   {'PASS' if ratio >= least else 'FAIL'}")
    bare = ", ".join(f"{b:.2f}" for _, b in pairs)
    print(f"two workers / one: {len(whole)} of {len(pairs)} rounds had two whole cores (bare I/O by two / one: {bare})")
    if "--save" in sys.argv:
        os.makedirs("docs/numbers", exist_ok=True)
        path = f"docs/numbers/{datetime.date.today()}-{platform.node()}.json"
        with open(path, "w") as file:
            json.dump({"promises": promises, "runs": runs}, file, indent=1)
            file.write("\n")
        print(f"saved {path}")
    return 0 if all(ratio >= least for _, ratio, least in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
