"""The promised figures: runs nfv bench and dpdk-testpmd by turns, and compares medians. Called by bench.sh."""

import argparse
import datetime
import ipaddress
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

import ids_load
import wanopt_boxes

NFV = os.environ.get("NFV", "target/release/nfv")
ROUNDS = 5
SECONDS = 3
# What is measured, in the order of the table: see the functions of these names.
GROUPS = ["basics", "chain", "flows", "new", "rules", "offload", "balance", "ids", "wanopt"]
ONE, TWO = ["-l", "0,1"], ["--lcores", "0@0,1@0,2@1"]
VIP = "203.0.113.1"
# To the balancer's address, so that all of a chain has something to do.
TO_VIP = f"dst={VIP},dsts=1,dport=80"
# At most, of an IPv4 flow.
FLOW_BYTES = 160
# MiB that an IDS may have for a million connections.
IDS_MEMORY = 512
# What the IDS is loaded with: frames, and bytes of payload.
LOAD = {}


# ---- one run ----


def huge_pages():
    """EAL's options for memory: huge pages when there are enough of them."""
    with open("/proc/meminfo") as file:
        free = int(re.search(r"HugePages_Free:\s+(\d+)", file.read()).group(1))
    return [] if free >= 256 else ["--no-huge", "-m", "1024"]


def resident(pid):
    """Bytes of memory that a process has, as the kernel counts them: huge pages of the heap too, hugetlbfs not."""
    with open(f"/proc/{pid}/status") as file:
        return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1))


def nfv(chain, memory, traffic=None, lcores=ONE, established=False, attack=None):
    """One run of nfv bench, as the object that it prints; with `flow_bytes`, where it opened flows."""
    words = [NFV, "bench", *lcores, "--no-pci", *memory, "--", chain, "--json", "--seconds", str(SECONDS)]
    words += ["--traffic", traffic] if traffic else []
    words += ["--established", "--step"] if established else []
    words += ["--attack", attack] if attack else []
    environment = {**os.environ, "NFV_LOG": "error"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, text=True, env=environment, **pipes)
    sizes = []
    while established and len(sizes) < 2:
        line = process.stderr.readline()
        if not line:
            break
        if "press Enter" in line:
            sizes.append(resident(process.pid))
            process.stdin.write("\n")
            process.stdin.flush()
    out, why = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}: exit {process.returncode}\n{why}")
    result = json.loads(out)
    if established:
        result["flow_bytes"] = (sizes[1] - sizes[0]) / result["flows"]["opened"]
    return result


def given(chain, memory):
    """Rules a second of the first port's NIC, as nfv plan measures them; none of those that its driver does not do."""
    words = [NFV, "plan", *ONE, "--no-pci", *memory, "--", chain, "--install", "--json"]
    run = subprocess.run(words, env={**os.environ, "NFV_LOG": "error"}, capture_output=True, text=True)
    if run.returncode != 0:
        return {"refused": [[run.stderr.strip().splitlines()[-1], 0]], "rules": 0}
    port = json.loads(run.stdout)["ports"][0]
    return {**port["rules_per_second"], "refused": port["refused"], "rules": len(port["rules"])}


def busy_ns(pid):
    """Nanoseconds for which the worker of a process had its CPU; 0, when it is gone."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/comm") as file:
                if "worker" not in file.read():
                    continue
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                return int(file.read().split()[0])
    except OSError:
        pass
    return 0


def testpmd(capture, memory):
    """dpdk-testpmd in mac mode, one way, on the devices of nfv bench; a second is one for which it had its CPU, too."""
    words = ["dpdk-testpmd", "-l", "0,1", "--no-pci", "--file-prefix", f"bench-{os.getpid()}", *memory]
    words += ["--vdev", f"net_pcap0,rx_pcap={capture},infinite_rx=1", "--vdev", "net_null1,no-rx=1"]
    words += ["--", "--forward-mode=mac", "--auto-start", "--nb-cores=1", "--total-num-mbufs=32768"]
    # Without it, it waits for a key.
    words += ["--stats-period", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(SECONDS + 2)
    process.send_signal(signal.SIGINT)
    # What its worker had until it was told to stop, however long that took; from then on it sleeps.
    nanos, ends = 0, time.monotonic() + 20
    while process.poll() is None and time.monotonic() < ends:
        nanos = busy_ns(process.pid) or nanos
        time.sleep(0.01)
    out, _ = process.communicate(timeout=1)
    totals = re.search(rb"Accumulated.*?TX-packets:\s*(\d+)", out, re.DOTALL)
    return {"mpps": int(totals.group(1)) / nanos * 1e3}


# ---- chain files and traffic ----


def types():
    """The types of functions that this nfv has."""
    schema = subprocess.run([NFV, "schema"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r'"const":\s*"([a-z-]+)"', schema))


def firewall(rules, stateful=True):
    """A firewall whose last rule lets the traffic through; the ones before it look at the same addresses."""
    lines = [f"    type: firewall\n    stateful: {str(stateful).lower()}\n    rules:\n"]
    for i in range(rules - 1):
        protocol, port = ("tcp", "udp")[i % 2], 1000 + i % 60_000
        lines.append(f"      - {{ deny: {protocol}, src: 10.{i >> 8 & 255}.{i & 255}.0/24, dport: {port} }}\n")
    return "".join(lines) + "      - { allow: [tcp, udp], dport: [53, 80] }\n"


def write_chain(path, functions, unreplied="30s"):
    """A chain file: `functions` by name, in the order of the chain."""
    with open(path, "w") as file:
        file.write('ports: { lan: net_null0, wan: "net_null1,no-rx=1" }\n')
        file.write(f"flows: {{ max: 12000000, udp-unreplied: {unreplied} }}\n")
        file.write("functions:\n" + "".join(f"  {name}:\n{text}" for name, text in functions.items()))
        file.write(f"chains: {{ through: {{ from: lan, through: [{', '.join(functions)}], to: wan }} }}\n")
    return path


def full_chain(protocol, count=10_000):
    """Firewall, NAT and balancer for so many flows; and the types that this nfv does not have, which are left out."""
    backends = ", ".join(f"{{ address: 192.0.2.{i} }}" for i in range(1, 11))
    lb = f"type: lb\n    virtual: {VIP}\n    port: 80\n    protocol: {protocol}\n    backends: [ {backends} ]\n"
    # Half as many outside ports again as flows: a flow has one of its own, and not any will do (docs/nf/nat.md).
    first = ipaddress.IPv4Address("198.51.100.0")
    pool = f"{first}-{first + max(8, -(-count // 40_000)) - 1}"
    functions = {
        "edge": firewall(100),
        "nat": f"    type: nat\n    external: [ {pool} ]\n    internal: [ 10.0.0.0/8 ]\n",
        "balance": f"    {lb}",
    }
    known = types()
    of = {"edge": "firewall", "nat": "nat", "balance": "lb"}
    missing = [kind for kind in of.values() if kind not in known]
    return {name: text for name, text in functions.items() if of[name] in known}, missing


def five_more():
    """Flow functions that let all through: two of them keep flows for themselves."""
    texts = {}
    for i in range(5):
        rules = f"[ {{ deny: tcp, dport: {2000 + i} }}, {{ allow: any }} ]"
        texts[f"more{i}"] = f"    type: firewall\n    stateful: {str(i < 2).lower()}\n    rules: {rules}\n"
    return texts


def stateless_firewall(path, rules):
    """A firewall that looks at each packet, with so many rules for another protocol."""
    with open(path, "w") as file:
        file.write('ports: { lan: net_null0, wan: "net_null1,no-rx=1" }\n')
        file.write("functions:\n  edge:\n    type: firewall\n    rules:\n")
        for i in range(rules - 1):
            a, b = i >> 8 & 255, i & 255
            file.write(f"      - {{ deny: tcp, src: 172.{16 + i % 16}.{a}.{b}, dport: {1000 + i} }}\n")
        file.write("      - { allow: udp, dport: 53 }\n")
        file.write("chains: { through: { from: lan, through: [edge], to: wan } }\n")
    return path


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
    return path


# ---- what is measured: each group is the runs of a round, by name, and what is promised of them ----


def basics(folder, memory):
    """A forwarder, a stateless firewall with 10 and 10,000 rules, two workers, a router."""
    firewalls = {n: stateless_firewall(f"{folder}/firewall-{n}.yaml", n) for n in (10, 10_000)}
    forward = "chains/forward.yaml"
    return {
        "forward": lambda: nfv(forward, memory),
        "firewall 10": lambda: nfv(firewalls[10], memory),
        "firewall 10000": lambda: nfv(firewalls[10_000], memory),
        "one": lambda: nfv(forward, memory),
        "two": lambda: nfv(forward, memory, lcores=TWO),
        "router": lambda: nfv("chains/route.yaml", memory, "udp,dst=192.0.2.1"),
    }


def basics_promises(runs):
    yield least("forward / testpmd mac", mpps(runs["forward"]) / mpps(runs["testpmd"]), 0.75)
    yield least("firewall, 10,000 rules / 10", mpps(runs["firewall 10000"]) / mpps(runs["firewall 10"]), 0.5)
    # A virtual machine's CPUs may be threads of one core for a while: then nothing gets twice as much done by two, and
    # the same I/O without a chain shows it. Only rounds in which that doubled say something of the chain.
    pairs = [(b["mpps"] / a["mpps"], b["ceiling_mpps"] / a["ceiling_mpps"]) for a, b in zip(runs["one"], runs["two"])]
    whole = [ratio for ratio, bare in pairs if bare >= 1.6]
    if whole:
        yield least("two workers / one", statistics.median(whole), 1.8)
    bare = ", ".join(f"{b:.2f}" for _, b in pairs)
    yield note(f"two workers / one: {len(whole)} of {len(pairs)} rounds had two whole cores (bare I/O by two / one: {bare})")


def chain(folder, memory):
    """Firewall, NAT and balancer on 10,000 flows that are open, and with five more functions."""
    runs = {}
    for protocol in ("udp", "tcp"):
        functions, _ = full_chain(protocol)
        full = write_chain(f"{folder}/full-{protocol}.yaml", functions)
        eight = write_chain(f"{folder}/eight-{protocol}.yaml", {**functions, **five_more()})
        traffic = f"{protocol},size=64,{TO_VIP}"
        for name, file in ((f"full, {protocol}", full), (f"eight, {protocol}", eight)):
            runs[name] = lambda file=file, traffic=traffic: nfv(file, memory, traffic, established=True)
    return runs


def chain_promises(runs):
    yield from missing_note()
    for protocol in ("udp", "tcp"):
        full, eight = runs[f"full, {protocol}"], runs[f"eight, {protocol}"]
        yield most(f"full chain, {protocol}: clocks above I/O", median(full, "clocks_above_ceiling"), 110, unit="ck")
        yield note(f"full chain, {protocol} / testpmd mac: {mpps(full) / mpps(runs['testpmd']):.2f}, expected about 0.32")
        ratio = median(eight, "ns_per_packet") / median(full, "ns_per_packet")
        yield most(f"eight functions / three, {protocol}: ns", ratio, 1.15)
        yield all_pass(f"full chain, {protocol}", full + eight)


COUNTS = {"10 k": 10_000, "1 M": 1_000_000, "10 M": 10_000_000}


def flows(folder, memory):
    """The same chain with more and more flows, in random order; and their memory."""
    runs = {}
    for protocol in ("udp", "tcp"):
        for name, count in COUNTS.items():
            file = write_chain(f"{folder}/flows-{protocol}-{count}.yaml", full_chain(protocol, count)[0])
            traffic = f"{protocol},size=64,flows={count},order=random,{TO_VIP}"
            runs[f"{name} flows, {protocol}"] = lambda f=file, t=traffic: nfv(f, memory, t, established=True)
    return runs


def flows_promises(runs):
    yield from missing_note()
    for protocol in ("udp", "tcp"):
        few, more, many = (runs[f"{name} flows, {protocol}"] for name in COUNTS)
        base = median(few, "ns_per_packet")
        yield most(f"1 M flows / 10 k, {protocol}: ns", median(more, "ns_per_packet") / base, 2.3)
        yield most(f"10 M flows / 10 k, {protocol}: ns", median(many, "ns_per_packet") / base, 4.5)
        for name, list_ in (("1 M", more), ("10 M", many)):
            size = max(r["flow_bytes"] for r in list_)
            yield most(f"memory of a flow, {name}, {protocol}", size, FLOW_BYTES, unit="B")
        yield all_pass(f"flows, {protocol}", few + more + many)


def new(folder, memory):
    """Flows of one packet, which live for a second."""
    file = write_chain(f"{folder}/new.yaml", full_chain("udp", 4_000_000)[0], unreplied="1s")
    return {"new flows": lambda: nfv(file, memory, f"udp,flows=new,{TO_VIP}")}


def new_promises(runs):
    yield from missing_note()
    begun, ended = (median([r["flows"] for r in runs["new flows"]], f"{what}_per_second") for what in ("begun", "ended"))
    yield least("new flows a second, in millions", begun / 1e6, 1.0)
    yield least("flows that ended / that began", ended / begun, 0.9)
    yield all_pass("new flows", runs["new flows"])


def rules(folder, memory):
    """A firewall that keeps flows, with 10 and 100,000 rules."""
    runs = {}
    for count in (10, 100_000):
        lasting = write_chain(f"{folder}/lasting-{count}.yaml", {"edge": firewall(count)})
        brief = write_chain(f"{folder}/brief-{count}.yaml", {"edge": firewall(count)}, unreplied="1s")
        runs[f"{count} rules, open"] = lambda f=lasting: nfv(f, memory, f"udp,{TO_VIP}", established=True)
        runs[f"{count} rules, new"] = lambda f=brief: nfv(f, memory, f"udp,flows=new,{TO_VIP}")
    return runs


def rules_promises(runs):
    for what, bound in (("open", 1.05), ("new", 4.0)):
        few, many = runs[f"10 rules, {what}"], runs[f"100000 rules, {what}"]
        ratio = median(many, "ns_per_packet") / median(few, "ns_per_packet")
        yield most(f"100,000 rules / 10, {what} flows: ns", ratio, bound)
        yield all_pass(f"rules, {what}", few + many)


def denying_chain(path, firewalls, rules=1000):
    """Firewalls without state in a row, before an emulated NIC's port; they let all through but what their rules name."""
    each = rules // firewalls
    with open(path, "w") as file:
        file.write('ports: { lan: "emulated,profile=any,queues=1", wan: "net_null1,no-rx=1" }\nfunctions:\n')
        for f in range(firewalls):
            file.write(f"  edge{f}:\n    type: firewall\n    rules:\n")
            for i in range(f * each, (f + 1) * each - 2):
                a, b = i >> 8 & 255, i & 255
                file.write(f"      - {{ deny: tcp, src: 172.{16 + i % 16}.{a}.{b}, dport: {1000 + i} }}\n")
            last = 9 if f == firewalls - 1 else 10 + f
            file.write(f"      - {{ deny: udp, dport: {last} }}\n      - {{ allow: any }}\n")
        names = ", ".join(f"edge{f}" for f in range(firewalls))
        file.write(f"chains: {{ through: {{ from: lan, through: [{names}], to: wan }} }}\n")
    return path


def offload(folder, memory):
    """Chains of 1,000 rules behind an emulated NIC, in one firewall and in eight; and an attack that the last rule denies."""
    one, eight = denying_chain(f"{folder}/one.yaml", 1), denying_chain(f"{folder}/eight.yaml", 8)
    devices = {"emulated mlx5": "emulated,profile=mlx5,queues=1", "Linux' tap": "net_tap0,iface=nfvbench0"}
    chains = {name: f"{folder}/given-{at}.yaml" for at, name in enumerate(devices)}
    for name, path in chains.items():
        with open(one) as known, open(path, "w") as file:
            file.write(known.read().replace("emulated,profile=any,queues=1", devices[name]))
    return {
        "1 firewall": lambda: nfv(one, memory),
        "8 firewalls": lambda: nfv(eight, memory),
        "8, attacked": lambda: nfv(eight, memory, attack="udp,dport=9"),
        **{f"given, {name}": lambda path=path: given(path, memory) for name, path in chains.items()},
    }


def offload_promises(runs):
    def of(name, key):
        return statistics.median(r["offload"][key] for r in runs[name])

    for name in ("1 firewall", "8 firewalls"):
        yield note(f"{name}, 1,000 rules: {of(name, 'mpps'):.2f} Mpps through the NIC's rules, {of(name, 'mpps_without'):.2f} "
                   f"without; the sender waited for the worker in {100 * of(name, 'sender_waited'):.0f} % and "
                   f"{100 * of(name, 'sender_waited_without'):.0f} % of its bursts. The NIC and the sender have a core, "
                   "the worker another: packets come from its cache")
    yield least("1,000 rules in 8 firewalls: tagged / untagged", of("8 firewalls", "ratio"), 2.0)
    good, attack, without = (of("8, attacked", k) for k in
                             ("good_busy_ns", "attack_busy_ns", "attack_busy_ns_without"))
    yield note(f"0.5 Mpps of traffic: the worker is busy {good:.0f} ns for each of its packets, {attack:.0f} ns with 90 % of "
               f"denied traffic beside it, and {without:.0f} ns where the NIC has no rules")
    yield most("attack of 90 %: busy time of the worker", 100 * (attack / good - 1), 5.0, unit="%")
    yield least("the same without offload", 100 * (without / good - 1), 100.0, unit="%")
    yield all_pass("offload", runs["1 firewall"] + runs["8 firewalls"])
    for name in (name for name in runs if name.startswith("given, ")):
        one = runs[name][0]
        kinds = ((kind, [run[kind] for run in runs[name] if run.get(kind)]) for kind in ("given", "changed", "taken_back"))
        paces = ", ".join(f"{statistics.median(all):.0f} {kind.replace('_', ' ')}" for kind, all in kinds if all)
        refused = "".join(f"; {rules} refused: {why}" for why, rules in one["refused"])
        yield note(f"rules a second, {name.removeprefix('given, ')} ({one['rules']} rules): {paces or 'none'}{refused}")


def balance(folder, memory):
    """Flows by Zipf's law that nearly all fall to one of two workers at first: tests/balance.rs, which needs no device."""
    return {"skewed": skewed}


def skewed():
    test = ["cargo", "test", "--release", "--locked", "--test", "balance", "--", "--nocapture"]
    done = subprocess.run(test, capture_output=True, text=True)
    figures = re.search(r"^figures: (.*)$", done.stdout, re.MULTILINE)
    if figures is None:
        sys.exit(f"tests/balance.rs: {done.stdout}{done.stderr}")
    return json.loads(figures.group(1)) | {"failed": done.returncode}


def balance_promises(runs):
    list_ = runs["skewed"]
    for table in ("stays", "follows"):
        seconds = statistics.median(r[table]["even_after_seconds"] for r in list_)
        yield most(f"skewed, table {table}: within 10 points after", seconds, 1, unit="s")
        for what in ("lost", "out_of_order"):
            yield most(f"skewed, table {table}: packets {what}", sum(r[table][what] for r in list_), 0)
    handed = statistics.median(r["follows"]["handed_over"] for r in list_)
    yield most("skewed, table follows: handed over", 100 * handed, 1, unit="%")
    yield least("skewed, nothing moves: points apart", 100 * min(r["without"]["spread"] for r in list_), 30)


def wanopt(folder, memory):
    """Source text once and again through an encoder and its decoder, without packets' way in and out (nfs/src/wanopt); two boxes."""
    text = f"{folder}/text"
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    find = f"(find {home}/registry/src -name '*.rs' | sort; find /usr/include -name '*.h' | sort)"
    make = f"{find} | xargs -d '\\n' cat 2>/dev/null | head -c 50000000 > {text}"
    subprocess.run(["sh", "-c", make], check=True)
    wanopt_boxes.capture(text, f"{folder}/text.pcap")
    return {"text": lambda: encoded(text), "boxes": lambda: wanopt_boxes.measure(NFV, folder, memory)}


def encoded(text):
    test = ["cargo", "test", "--release", "--locked", "-p", "nfs", "--lib", "how_fast_packets", "--", "--ignored",
            "--nocapture"]
    done = subprocess.run(test, capture_output=True, text=True, env=os.environ | {"WANOPT_TEXT": text})
    figures = re.search(r"^figures: (.*)$", done.stdout, re.MULTILINE)
    if figures is None:
        sys.exit(f"nfs/src/wanopt/speed.rs: {done.stdout}{done.stderr}")
    return json.loads(figures.group(1))


def wanopt_promises(runs):
    list_ = runs["text"]
    ratio = statistics.median(r["new_fast_gbps"] / r["raw_lz4_gbps"] for r in list_)
    yield least("encode what was seen before", median(list_, "seen_gbps"), 5, unit="Gb")
    yield least("encode new text, of raw LZ4's speed", 100 * ratio, 60, unit="%")
    yield least("decode what was seen before", median(list_, "decode_seen_gbps"), 5, unit="Gb")
    yield most("new text, zstd: bytes left", 100 * median(list_, "new_best_share"), 45, unit="%")
    yield most("seen before: bytes left", 100 * median(list_, "seen_share"), 8, unit="%")
    for box in "encoder", "decoder":
        name = f"{box}, memory: {wanopt_boxes.MEMORY}MiB, all in all"
        yield most(name, median(runs["boxes"], f"{box}_mib"), wanopt_boxes.MEMORY + wanopt_boxes.BESIDES, unit="MiB")
    others = ", ".join(f"{key} {median(list_, key):.2f}" for key in list_[0])
    yield note(f"medians: {others}")


# ---- what was promised ----


def median(list_, key):
    return statistics.median(r[key] for r in list_)


def mpps(list_):
    return median(list_, "mpps")


def least(name, value, bound, unit=""):
    return {"name": name, "value": value, "least": bound, "unit": unit, "holds": value >= bound}


def most(name, value, bound, unit=""):
    return {"name": name, "value": value, "most": bound, "unit": unit, "holds": value <= bound}


def all_pass(name, list_):
    """Figures of packets that were dropped are none."""
    lost = max(r["lost_packets"] / max(r["offered_packets"], 1) for r in list_)
    closed = [r for r in list_ if r["flows"]["opened"] == 0]
    return most(f"{name}: lost packets", 100 * lost, 0, unit="%") | ({"holds": False} if closed else {})


def ids(folder, memory):
    """3,000 rules on web pages, beside what their patterns alone cost; flows that are let go; a million connections."""
    LOAD.update(zip(("frames", "payload"), ids_load.main(folder)))
    look = f"""    type: ids
    rules: {folder}/load.rules
    vars: {{ address-groups: {{ HOME_NET: 192.168.0.0/16, EXTERNAL_NET: "!192.168.0.0/16" }} }}
    log: {{ file: {folder}/eve.json, types: [alert] }}
"""
    inspect = write_chain(f"{folder}/ids.yaml", {"inspect": look})
    # Flows of which both sides have said enough, beside flows that nobody looks at: the same packets.
    open_ = "    type: firewall\n    stateful: true\n    loose: true\n    default: allow\n"
    shallow = f"{look}    stream: {{ depth: 128B, midstream: true }}\n    bypass: on\n"
    without = write_chain(f"{folder}/without.yaml", {"edge": open_})
    bypassed = write_chain(f"{folder}/bypassed.yaml", {"edge": open_, "inspect": shallow})
    many = write_chain(f"{folder}/many.yaml", {"inspect": f"{look}    memory: {{ flows: {IDS_MEMORY}MiB }}\n"})
    return {
        "pages, 3,000 rules": lambda: nfv(inspect, memory, f"pcap={folder}/load.pcap"),
        "pages, their patterns": lambda: raw_scan(folder),
        "pages, let go": lambda: nfv(bypassed, memory, f"pcap={folder}/middle.pcap"),
        "pages, no ids": lambda: nfv(without, memory, f"pcap={folder}/middle.pcap"),
        "a million connections": lambda: nfv(many, memory, "tcp,flows=1000000", established=True),
    }


def ids_promises(runs):
    bits = LOAD["payload"] / LOAD["frames"] * 8
    pages = runs["pages, 3,000 rules"]
    with_copies = bits * mpps(pages) / 1e3
    # net_pcap copies each packet where a NIC writes it by itself.
    inspected = bits / statistics.median(r["ns_per_packet"] - 1e3 / r["ceiling_mpps"] for r in pages)
    scanned = median(runs["pages, their patterns"], "gbps")
    yield note(f"inspected {inspected:.1f} Gbit/s of payloads ({with_copies:.1f} with net_pcap's copying); Hyperscan alone "
               f"scans {scanned:.1f} for the same patterns")
    yield least("inspected / scanned by Hyperscan alone", inspected / scanned, 0.7)
    let_go, without = (median(runs[f"pages, {name}"], "ns_per_packet") for name in ("let go", "no ids"))
    yield most("flows let go / no ids: ns", let_go / without, 1.1)
    size = max(r["flow_bytes"] for r in runs["a million connections"]) * 1e6 / (1 << 20)
    yield most("memory of a million connections", size, IDS_MEMORY, unit="MiB")


def raw_scan(folder):
    """What one thread scans by Hyperscan alone, of the same payloads for the same patterns."""
    words = ["cargo", "bench", "--quiet", "--locked", "--bench", "raw_scan", "--"]
    words += [f"{folder}/load.rules", f"{folder}/load.pcap", str(SECONDS)]
    result = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {**result, "mpps": result["gbps"] * 1e3 / 8 / LOAD["payload"] * LOAD["frames"]}


def note(text):
    return {"note": text, "holds": True}


def missing_note():
    """A chain without its functions keeps no promise."""
    missing = full_chain("udp")[1]
    if missing:
        yield {"note": f"NOT the full chain: this nfv has no {' and no '.join(missing)}", "holds": False}


def print_runs(runs):
    print(f"{'':<22}{'Mpps':>9}{'least':>9}{'most':>9}{'ns/packet':>11}{'above I/O':>11}{'p99 ns':>9}{'CPU':>7}")
    for name, list_ in runs.items():
        # Some count something else than packets: their promises say it.
        rates = [r["mpps"] for r in list_ if "mpps" in r]
        if not rates:
            continue
        more = ""
        if "ceiling_mpps" in list_[0]:
            clocks, share = median(list_, "clocks_above_ceiling"), median(list_, "cpu_share")
            p99 = statistics.median(r["latency_ns"]["p99"] for r in list_)
            more = f"{median(list_, 'ns_per_packet'):>11.1f}{clocks:>8.0f} ck{p99:>9.0f}{100 * share:>6.0f}%"
        print(f"{name:<22}{mpps(list_):>9.2f}{min(rates):>9.2f}{max(rates):>9.2f}{more}")


def print_promise(promise):
    if "note" in promise:
        print(promise["note"])
        return
    word, bound = ("at least", promise["least"]) if "least" in promise else ("at most", promise["most"])
    unit, verdict = promise["unit"], "PASS" if promise["holds"] else "FAIL"
    print(f"{promise['name']:<42}{promise['value']:>8.2f} {unit:<3} promised {word} {bound:g} {unit:<3} {verdict}")


def main():
    global SECONDS
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("groups", nargs="*", metavar="GROUP", help=f"what to measure: {', '.join(GROUPS)}; all")
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="of a run")
    arguments.add_argument("--save", action="store_true", help="also to docs/numbers/DATE-HOST.json")
    asked = arguments.parse_args()
    SECONDS = asked.seconds
    groups = [g for g in GROUPS if g in (asked.groups or GROUPS)]
    if unknown := set(asked.groups) - set(GROUPS):
        arguments.error(f"no group {', '.join(unknown)}: {', '.join(GROUPS)}")
    memory, results, promises = huge_pages(), {}, []
    print(f"{platform.node()}, {os.cpu_count()} CPUs, {'ordinary' if memory else 'huge'} pages, "
          f"{asked.rounds} rounds of {SECONDS:g} s by turns; 64 bytes, 10,000 flows if not said; medians")
    with tempfile.TemporaryDirectory() as folder:
        capture = capture_of_flows(f"{folder}/flows.pcap")
        for group in groups:
            makers = globals()[group](folder, memory)
            if group in ("basics", "chain"):
                makers = {"testpmd": lambda: testpmd(capture, memory), **makers}
            runs = {name: [] for name in makers}
            for _ in range(asked.rounds):
                for name, make in makers.items():
                    runs[name].append(make())
            print(f"\n{group}")
            if group not in ("balance", "wanopt"):
                print_runs(runs)
            print()
            for promise in globals()[f"{group}_promises"](runs):
                print_promise(promise)
                promises.append(promise)
            results[group] = runs
            sys.stdout.flush()
    if asked.save:
        os.makedirs("docs/numbers", exist_ok=True)
        path = f"docs/numbers/{datetime.date.today()}-{platform.node()}.json"
        with open(path, "w") as file:
            json.dump({"promises": promises, "runs": results}, file, indent=1)
            file.write("\n")
        print(f"saved {path}")
    return 0 if all(p["holds"] for p in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
