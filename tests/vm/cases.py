"""The cases: `cases.py KERNEL ARCHIVE [WORD]...`. Each says what it shows; the last line counts them."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import time

from machine import Failed, Host, Machine, mac_of_pf

TRAFFIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traffic.py")
PFS = ["eth0", "eth1"]
PF_ADDRESSES = ["0000:01:00.0", "0000:02:00.0"]
VFS = ["0000:01:10.0", "0000:02:10.0"]
METRICS = "127.0.0.1:9090"
ONE_WORKER, TWO_WORKERS = "-l 0,1", "--lcores 0@0,1@0,2@1"


def check(holds, what):
    if not holds:
        raise Failed(what)


def wait_until(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.2)


class Run:
    """`nfv run` in the guest."""

    def __init__(self, vm, options, chain, devices, environment=""):
        self.vm = vm
        lan, wan = devices
        run = f"{environment} LAN={lan} WAN={wan} nfv run {options} -- {chain} --control /run/nfv.sock --metrics {METRICS}"
        started = f"{run} >/run/out 2>/run/log & echo $! >/run/pid"
        vm.must(f"rm -f /run/status; ({started}; wait $!; echo $? >/run/status) >/dev/null 2>&1 &")

    def comes_up(self):
        wait_until("nfv runs", lambda: "metrics at" in self.log() or self.has_ended())
        check(not self.has_ended(), "nfv ended")

    def log(self):
        return self.vm.must("cat /run/log")

    def has_ended(self):
        return self.vm.run("test -e /run/status")[0] == 0

    def ctl(self, words):
        return self.vm.must(f"nfv ctl {words} --control /run/nfv.sock")

    def counts(self, wanted):
        """Counters of one moment, a metric, labels (`port="lan",worker="0"`) and value each: those with the words."""
        # Much sooner than `nfv ctl`, which is a program that starts.
        said = self.vm.must(f"wget -qO- http://{METRICS}/metrics | grep -E '{wanted}' || true")
        found = re.findall(r"^nfv_(\w+)_total(?:\{(.*)\})? (\d+)$", said, re.M)
        return [(metric, labels, int(value)) for metric, labels, value in found]

    def count(self, wanted):
        """The sum of counters."""
        return sum(value for _, _, value in self.counts(wanted))

    def stop(self):
        """Ends it as a user would. Returns its summary, whose account must balance."""
        self.vm.must("kill -INT $(cat /run/pid)")
        wait_until("nfv ends", self.has_ended)
        out, log = self.vm.must("cat /run/out"), self.log()
        status = self.vm.must("cat /run/status")
        check(status == "0", f"nfv ended with {status}")
        # What net_tap says of a kernel that does not take its BPF program: a question of nfv's is answered by it.
        errors = [line for line in log.splitlines() if "ERROR" in line and "rss_add_actions" not in line]
        check(not errors, f"nfv logged an error: {errors}")
        check(re.search(r"^received \d+ \+ created", out, re.M), "there is no account")
        return out


class Site:
    """The guest and its two hosts, and what cases do with them."""

    def __init__(self, vm, lan, wan, folder):
        self.vm, self.lan, self.wan, self.folder = vm, lan, wan, folder
        self.run = None
        with open(f"{folder}/data", "wb") as file:
            file.write(os.urandom(4 << 20))
        for host in [lan, wan]:
            host.serve("python3", "-m", "http.server", "80", "-d", folder)
        wan.serve("python3", TRAFFIC, "echo", "10.2.0.2", "7")

    def start(self, *words):
        self.run = Run(self.vm, *words)
        self.run.comes_up()
        return self.run

    def ping(self, host, to, count=3):
        return host.succeeds("ping", "-c", str(count), "-i", "0.2", "-W", "2", to)

    def ask(self, flows, rounds, to="10.2.0.2", timeout=120):
        """Datagrams from lan to wan and back. None may be lost, none may overtake another. Returns their number."""
        said = json.loads(self.lan.run("python3", TRAFFIC, "ask", to, "7", str(flows), str(rounds), timeout=timeout))
        check(said["lost"] == 0 and said["disordered"] == 0, f"datagrams: {said}")
        return said["sent"]

    def counts_equal_while(self, traffic):
        """What the hosts send during the traffic is what nfv receives, and the other way round."""
        # Not from the start: an emulated VF receives its own broadcasts, and its multicast goes nowhere.
        before = self.snapshot()
        traffic()
        for _ in range(10):
            hosts, ports = [
                [[now - then for now, then in zip(*pair)] for pair in zip(*side)] for side in zip(self.snapshot(), before)
            ]
            if hosts == ports:
                return
            time.sleep(0.3)
        raise Failed(f"frames that hosts have sent and received: {hosts}; nfv has received and sent: {ports}")

    def snapshot(self):
        """Frames that each host has sent and received, and each port received and sent; none was under way."""
        frames = lambda: [host.frames() for host in [self.lan, self.wan]]
        hosts = frames()
        for _ in range(20):
            counts = self.run.counts("(received|sent)_packets")
            again = frames()
            if again == hosts:
                total = lambda way, port: sum(n for of, labels, n in counts if way in of and f'"{port}"' in labels)
                return hosts, [[total(way, port) for way in ["received", "sent"]] for port in ["lan", "wan"]]
            hosts = again
        raise Failed("the hosts never rest")

    def tidy(self):
        """After a case that failed, nothing of it stays."""
        if self.run and not self.run.has_ended():
            self.vm.run("kill -KILL $(cat /run/pid); sleep 0.5")
        self.run = None


# ---- the cases, in their order ----


def what_cannot_be_done_is_a_clear_error(site):
    vm = site.vm
    for words, why in [
        ("eth7 2", "there is no interface eth7; there are: eth0 eth1 lo"),
        ("lo 1", "lo is no device on PCI"),
        ("eth0 8", "makes at most 7 VFs"),
        ("eth0", "how many VFs?"),
        ("0000:00:00.0 1", "makes no VFs"),
    ]:
        status, said = vm.run(f"scripts/bind-vf.sh {words}")
        check(status == 1 and why in said, f"bind-vf.sh {words}: {status}: {said}")


def the_script_makes_vfs_that_nfv_can_use(site):
    vm = site.vm
    for pf, vf in zip(PFS, VFS):
        said = vm.must(f"scripts/bind-vf.sh {pf} 1")
        check(f"-a {vf}" in said and f'device: "{vf}"' in said, said)
        shown = vm.must(f"ip link show dev {pf}")
        mac = "02:00:12:34:" + mac_of_pf(PFS.index(pf))[-2:] + ":00"
        check(re.search(f"vf 0 .*{mac}.*spoof checking off.*trust on", shown), shown)
    said = vm.must(f"nfv doctor -a {VFS[0]}")
    check("a run can start" in said, said)


def a_vf_that_its_kernel_driver_has_is_a_clear_error(site):
    vm, (vf, _) = site.vm, VFS
    device = f"/sys/bus/pci/devices/{vf}"
    vm.must(f"modprobe igbvf && echo igbvf >{device}/driver_override && echo {vf} >{device}/driver/unbind")
    vm.must(f"echo {vf} >/sys/bus/pci/drivers_probe")
    status, said = vm.run(f"LAN={vf} WAN={VFS[1]} timeout 20 nfv run -l 0,1 -a {vf} -a {VFS[1]} -- chains/edge.yaml")
    check(status in (1, 2) and "igbvf" in said and "vfio-pci" in said, f"{status}: {said}")
    # The script takes it from there.
    vm.must(f"scripts/bind-vf.sh {PFS[0]} 1")
    said = vm.must(f"readlink {device}/driver")
    check(said.endswith("/vfio-pci"), said)


def edge_carries_two_hosts_over_two_vfs(site):
    run = site.start(f"{ONE_WORKER} -a {VFS[0]} -a {VFS[1]}", "chains/edge.yaml", VFS)
    wait_until("lan reaches wan", lambda: site.ping(site.lan, "10.2.0.2", 1))
    check(site.ping(site.lan, "10.2.0.2"), "ping")
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{site.folder}/data", "rb") as file:
            right = hashlib.sha256(file.read()).hexdigest()
        # From the inside through the nat, and from outside to the service that two servers share.
        for host, to in [(site.lan, "10.2.0.2"), (site.wan, "198.51.100.80")]:
            get = ["curl", "-sf", "--max-time", "30", "--retry", "20", "--retry-all-errors", "--retry-delay", "1"]
            host.run(*get, "-o", f"{folder}/got", f"http://{to}/data")
            with open(f"{folder}/got", "rb") as file:
                check(hashlib.sha256(file.read()).hexdigest() == right, f"what came from {to} is not what was sent")
    macs = site.lan.run("ip", "neighbour", "show", "10.1.0.1")
    check("02:00:12:34:50:00" in macs, f"it answers from the VF's own address: {macs}")
    site.counts_equal_while(lambda: check(site.ask(16, 20) == 1280, "datagrams"))
    run.stop()


def two_workers_share_what_comes_in_by_one_queue(site):
    """All that a VF of this kind receives comes by its first queue: flows of the other worker are handed over. The VFs are
    named as in a pod of Kubernetes'."""
    resource, variable = "intel.com/sriov", f"PCIDEVICE_INTEL_COM_SRIOV={','.join(VFS)}"
    options = f"{TWO_WORKERS} -a {VFS[0]} -a {VFS[1]}"
    run = site.start(options, "chains/edge.yaml", [resource, resource], variable)
    wait_until("lan reaches wan", lambda: site.ping(site.lan, "10.2.0.2", 1))
    sent = site.ask(64, 10)
    flows = [worker["flows"] for worker in json.loads(run.ctl("shards --json"))]
    check(len(flows) == 2 and min(flows) >= 10, f"flows by worker: {flows}")
    handed = run.count("handed_over_packets")
    check(sent / 2 < handed < 2 * sent, f"{handed} of {2 * sent} packets were handed over")
    run.stop()


def a_pf_that_went_down_and_up_is_recovered_from(site):
    """Its VFs have a link then, and receive nothing: nfv starts the port again."""
    run = site.start(f"{ONE_WORKER} -a {VFS[0]} -a {VFS[1]}", "chains/edge.yaml", VFS)
    wait_until("lan reaches wan", lambda: site.ping(site.lan, "10.2.0.2", 1))
    for pf in PFS:
        site.vm.must(f"ip link set {pf} down && sleep 1 && ip link set {pf} up")
        wait_until(f"the ping passes after {pf} was down", lambda: site.ping(site.lan, "10.2.0.2", 1))
    check(run.log().count("started again in") >= 2, "both ports were started again")
    site.ask(16, 10)
    run.stop()


def what_the_script_made_it_takes_back(site):
    vm = site.vm
    for pf, vf in zip(PFS, VFS):
        vm.must(f"test -e /sys/bus/pci/devices/{vf}")
        vm.must(f"scripts/bind-vf.sh --undo {pf}")
        check(vm.run(f"test -e /sys/bus/pci/devices/{vf}")[0] == 1, f"{vf} is still there")


def a_shard_moves_in_the_table_of_the_nic(site):
    """The NICs as a whole: two queues each, and a table by which the NIC spreads flows."""
    vm = site.vm
    vm.must("modprobe vfio-pci")
    for address in PF_ADDRESSES:
        device = f"/sys/bus/pci/devices/{address}"
        vm.must(f"echo vfio-pci >{device}/driver_override && echo {address} >{device}/driver/unbind")
        vm.must(f"echo {address} >/sys/bus/pci/drivers_probe && test -e /sys/bus/pci/drivers/vfio-pci/{address}")
    options = " ".join(f"-a {address}" for address in PF_ADDRESSES)
    # Only the test moves shards.
    vm.must("(cat chains/edge.yaml; echo 'workers: { balance: false }') >chains/still.yaml")
    run = site.start(f"{TWO_WORKERS} {options}", "chains/still.yaml", PF_ADDRESSES)
    wait_until("lan reaches wan", lambda: site.ping(site.lan, "10.2.0.2", 1))
    site.counts_equal_while(lambda: site.ask(64, 10))
    shards = json.loads(run.ctl("shards --json"))
    check(min(worker["flows"] for worker in shards) >= 10, f"both workers have flows: {shards}")
    handed = lambda: run.count("handed_over_packets")
    # Checks of the servers' health come from the box itself, by any worker.
    few = 50
    check(handed() < few, f"the NIC gives each worker its own: {handed()} were handed over")
    # Nothing is lost while shards move to and fro.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        traffic = pool.submit(site.ask, 64, 60)
        for words in ["all 1", "all 0", "0-63 1"]:
            run.ctl(f"move {words}")
        traffic.result()
    run.ctl("move all 1")
    before = handed()
    sent = site.ask(64, 10)
    after = handed() - before
    check(after < few, f"the table follows: {after} of {2 * sent} packets were handed over")
    run.stop()


def a_tap_has_rules_of_the_kernel_carried_out(site):
    """What the rules of a NIC say is done, not only accepted: net_tap makes them cls_flower's."""
    vm = site.vm
    said = vm.must(f"nfv plan {TWO_WORKERS} --no-pci -- chains/tap.yaml 2>&1", timeout=60)
    planned = dict(re.findall(r"ipv4 / udp dst is (\d+) / end actions queue index ([01])", said))
    check(sorted(planned) == ["7", "9"], f"two classes are to be queued apart: {said}")
    run = site.start(f"{TWO_WORKERS} --no-pci", "chains/tap.yaml", ["-", "-"])
    vm.must("ip address add 10.5.0.1/24 dev lan0 && ip route add 10.6.0.0/24 dev lan0")
    vm.must("ip neighbour add 10.6.0.2 lladdr 02:00:00:00:00:99 dev lan0")
    told = run.ctl("offload --rules")
    check("NIC of lan (net_tap)" in told, told)
    queues = set(re.findall(r"lan class (\d+): queue ([01]), accepted", told))
    check({queue for _, queue in queues} == {"0", "1"}, f"two classes are queued apart: {told}")
    came = lambda: [run.count(f'received_packets.*"lan",worker="{worker}"') for worker in [0, 1]]

    def comes(port):
        """To which workers twenty packets come, each from a port of its own."""
        before = came()
        send = f"for i in 1 2 3 4 5 6 7 8 9 10; do echo x >/dev/udp/10.6.0.2/{port}; done"
        vm.must(f"{send}; {send}; sleep 0.5")
        return [now - then for now, then in zip(came(), before)]

    # What the firewall refuses does not even arrive; the rest does where the rules say, whatever its hash.
    check(comes(11) == [0, 0], f"refused packets were received: {came()}")
    for port, queue in planned.items():
        came_to = comes(port)
        check(came_to[int(queue)] == 20, f"port {port} was planned for queue {queue}, and came to {came_to}")
    run.stop()


CASES = [
    what_cannot_be_done_is_a_clear_error,
    the_script_makes_vfs_that_nfv_can_use,
    a_vf_that_its_kernel_driver_has_is_a_clear_error,
    edge_carries_two_hosts_over_two_vfs,
    two_workers_share_what_comes_in_by_one_queue,
    a_pf_that_went_down_and_up_is_recovered_from,
    what_the_script_made_it_takes_back,
    a_shard_moves_in_the_table_of_the_nic,
    a_tap_has_rules_of_the_kernel_carried_out,
]


def main(kernel, archive, *words):
    # Whoever ends the test ends the guest.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    passed = failed = 0
    with contextlib.ExitStack() as ends:
        lan = Host("lan", ["10.1.0.2/24", "10.1.0.11/24", "10.1.0.12/24"], "10.1.0.1")
        ends.callback(lan.end)
        wan = Host("wan", ["10.2.0.2/24"], "10.2.0.1")
        ends.callback(wan.end)
        start = time.monotonic()
        vm = Machine(kernel, archive, [lan, wan])
        ends.callback(vm.end)
        print(f"the guest is up after {time.monotonic() - start:.0f} s", flush=True)
        site = Site(vm, lan, wan, ends.enter_context(tempfile.TemporaryDirectory()))
        for case in CASES:
            name = case.__name__.replace("_", " ")
            if words and not any(word in name for word in words):
                continue
            start = time.monotonic()
            try:
                case(site)
                passed += 1
                print(f"ok      {name} ({time.monotonic() - start:.0f} s)", flush=True)
            except Exception as why:  # one case that fails does not end the others
                failed += 1
                print(f"FAILED  {name}: {why}", flush=True)
                if site.run:
                    print(f"nfv said:\n{vm.run('cat /run/log /run/out')[1]}", flush=True)
            with contextlib.suppress(Failed):
                site.tidy()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
