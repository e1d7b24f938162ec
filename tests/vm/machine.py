"""The VM, and the hosts around it: QEMU with two NICs (igb), each on a wire to a network namespace."""

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

BOOT_SECONDS = 40
BOOTS = 4
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


class Failed(Exception):
    """Something was not as it should be."""


def must(*words, timeout=60, **more):
    """Runs a program of this machine to its end. Returns what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, **more)
    if done.returncode != 0:
        raise Failed(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Host:
    """A namespace with one interface, `eth0`: the end of a wire of the VM."""

    def __init__(self, name, addresses, router=None):
        self.name, self.addresses, self.router = name, addresses, router
        self.namespace = f"nfvvm{os.getpid()}-{name}"
        self.tap = None
        self.servers = []
        must("ip", "netns", "add", self.namespace)
        self.run("ip", "link", "set", "lo", "up")
        # Nothing but what a test sends may stand in the counters.
        for of in ["default", "all"]:
            self.run("sysctl", "-qw", f"net.ipv6.conf.{of}.disable_ipv6=1")

    def plug_in(self):
        """Makes the wire. Returns its other end, a file descriptor for QEMU."""
        tap = os.open("/dev/net/tun", os.O_RDWR)
        name = f"nfvvm{os.getpid() % 100000}{self.name[0]}"
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        must("ip", "link", "set", name, "netns", self.namespace, "name", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.address(self.addresses, self.router)
        return tap

    def address(self, addresses, router=None):
        """Its addresses from now on, and its router."""
        self.run("ip", "address", "flush", "dev", "eth0")
        self.run("ip", "neighbour", "flush", "dev", "eth0")
        for address in addresses:
            self.run("ip", "address", "add", address, "dev", "eth0")
        if router:
            self.run("ip", "route", "add", "default", "via", router)

    def run(self, *words, **more):
        return must("ip", "netns", "exec", self.namespace, *words, **more)

    def succeeds(self, *words, **more):
        try:
            self.run(*words, **more)
            return True
        except (Failed, subprocess.TimeoutExpired):
            return False

    def serve(self, *words):
        """Starts a server, which ends with the host."""
        words = ["ip", "netns", "exec", self.namespace, *words]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.servers.append(subprocess.Popen(words, start_new_session=True, **pipes))

    def frames(self):
        """Frames that it has sent and received."""
        return tuple(
            int(self.run("cat", f"/sys/class/net/eth0/statistics/{which}_packets")) for which in ["tx", "rx"]
        )

    def end(self):
        for server in self.servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)


class Machine:
    """The guest, which carries out one command line at a time."""

    def __init__(self, kernel, archive, hosts):
        self.folder = tempfile.mkdtemp(prefix="nfv-vm-")
        self.wires = [host.plug_in() for host in hosts]
        for boot in range(1, BOOTS + 1):
            self._start(kernel, archive)
            if self._comes_up():
                return
            self._stop()
            with open(f"{self.folder}/qemu") as log:
                print(f"boot {boot} came to nothing:\n{log.read()}{self.console()[-2000:]}", flush=True)
        raise Failed("the guest does not boot")

    def _start(self, kernel, archive):
        line = (
            "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable random.trust_cpu=on "
            "intel_iommu=on iommu=pt"
        )
        words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        # hpet: with it one boot in some dozens hangs.
        words += ["-M", "q35,hpet=off", "-accel", self._accelerator(), "-cpu", "max", "-smp", "2", "-m", "1536"]
        words += ["-kernel", kernel, "-initrd", archive, "-append", line]
        words += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        words += ["-serial", f"file:{self.folder}/console", "-serial", f"unix:{self.folder}/shell,server=on,wait=off"]
        for number, tap in enumerate(self.wires):
            words += ["-device", f"pcie-root-port,id=root{number},slot={number},chassis={number}"]
            words += ["-netdev", f"tap,id=wire{number},fd={tap}"]
            words += ["-device", f"igb,bus=root{number},netdev=wire{number},mac={mac_of_pf(number)}"]
        log = open(f"{self.folder}/qemu", "w")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        self.qemu = subprocess.Popen(words, pass_fds=self.wires, start_new_session=True, **pipes)
        self.shell, self.unread = None, b""

    @staticmethod
    def _accelerator():
        """KVM only where the processor has it: a device of that name may be there without."""
        with open("/proc/cpuinfo") as file:
            flags = file.read().split()
        if ("vmx" in flags or "svm" in flags) and os.access("/dev/kvm", os.R_OK | os.W_OK):
            return "kvm,kernel-irqchip=split"
        return "tcg,thread=multi"

    def _comes_up(self):
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            if self.qemu.poll() is not None:
                return False
            try:
                self.shell = socket.socket(socket.AF_UNIX)
                self.shell.connect(f"{self.folder}/shell")
                break
            except OSError:
                time.sleep(0.1)
        return self._read_to(b"READY", end) is not None

    def _read_to(self, word, end):
        """All that the guest says before a line that begins with the word, and the rest of that line."""
        while time.monotonic() < end:
            lines = self.unread.split(b"\n")
            for at, line in enumerate(lines[:-1]):
                if line.startswith(word):
                    self.unread = b"\n".join(lines[at + 1 :])
                    return b"\n".join(lines[:at]).decode(errors="replace"), line[len(word) :].decode()
            if select.select([self.shell], [], [], 1)[0]:
                try:
                    more = self.shell.recv(65536)
                except ConnectionResetError:
                    more = b""
                if not more:
                    return None
                self.unread += more.replace(b"\r", b"")
        return None

    def run(self, line, timeout=30):
        """Carries out a command line in the guest. Returns how it ended, and what it printed."""
        self.shell.sendall(line.encode() + b"\n")
        said = self._read_to(b"ENDED ", time.monotonic() + timeout)
        if said is None:
            raise Failed(f"the guest does not answer in {timeout} s: {line}\n{self.console()[-2000:]}")
        return int(said[1]), said[0].strip("\n")

    def must(self, line, timeout=30):
        status, said = self.run(line, timeout)
        if status != 0:
            raise Failed(f"in the guest: {line}: {status}\n{said}")
        return said

    def console(self):
        with open(f"{self.folder}/console", errors="replace") as file:
            return file.read()

    def _stop(self):
        if self.qemu.poll() is None:
            os.killpg(self.qemu.pid, signal.SIGKILL)
        self.qemu.wait()
        if self.shell:
            self.shell.close()

    def end(self):
        self._stop()
        for wire in self.wires:
            os.close(wire)
        shutil.rmtree(self.folder)


def mac_of_pf(number):
    return f"52:54:00:12:34:{0x50 + number:02x}"
