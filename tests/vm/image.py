"""What the guest boots: a kernel that is no longer compressed, and an archive with the program and all that it needs.

`image.py unpack VMLINUZ VMLINUX`; `image.py guest PROGRAM KERNEL ARCHIVE`, where KERNEL has lib/modules."""

import glob
import lzma
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile

# What of DPDK the guest loads; all of it would be 100 MB.
PLUGINS = ["bus_pci", "bus_vdev", "mempool_ring", "net_e1000", "net_null", "net_tap"]
PROGRAMS = ["/usr/bin/bash", "/usr/bin/env", "/usr/bin/busybox", "/usr/bin/kmod", "/usr/sbin/ip"]
ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def unpack(compressed, kernel):
    """Writes the kernel of a bzImage: under emulation it boots some seconds earlier than with its own unpacking."""
    with open(compressed, "rb") as file:
        image = file.read()
    sectors, start = image[0x1F1] or 4, struct.unpack_from("<I", image, 0x248)[0]
    length = struct.unpack_from("<I", image, 0x24C)[0]
    at = (sectors + 1) * 512 + start
    # The last four bytes are the length of what was compressed.
    payload = image[at : at + length - 4]
    if payload.startswith(b"\xfd7zXZ"):
        plain = lzma.decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        plain = subprocess.run(["zstd", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    else:
        sys.exit(f"image.py: {compressed} is compressed in a way that is not known here")
    with open(kernel, "wb") as file:
        file.write(plain)


class Archive:
    """An archive as the kernel unpacks it at its start (cpio, newc)."""

    def __init__(self, file):
        self.file = file
        self.known = {"/"}
        for folder in ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/dev", "/proc", "/sys", "/run", "/tmp", "/root"]:
            self.folder(folder)
        for name in ["bin", "sbin", "lib", "lib64"]:
            self.link(f"/{name}", f"usr/{name}")
        self.link("/var", ".")

    def folder(self, path):
        if path not in self.known:
            self.folder(os.path.dirname(path))
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def link(self, path, to):
        self.folder(os.path.dirname(path))
        self._entry(path, stat.S_IFLNK | 0o777, to.encode())

    def add(self, path, source, mode=0o755):
        """The file of the machine at a place of the guest."""
        with open(source, "rb") as file:
            self.folder(os.path.dirname(path))
            self._entry(path, stat.S_IFREG | mode, file.read())

    def program(self, path, source=None):
        """With the libraries that it loads."""
        self.add(path, source or path)
        self.libraries(source or path)

    def libraries(self, source):
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            real = os.path.realpath(library)
            # EAL loads its plugins by their real names, and none of them may be loaded twice.
            self.add(real, real)
            # /lib is a link to /usr/lib, in the guest too.
            name = re.sub("^/lib", "/usr/lib", library)
            if name != real:
                self.link(name, real)

    def end(self):
        self._entry("/TRAILER!!!", 0, b"", always=True)

    def _entry(self, path, mode, data, always=False):
        if path in self.known and not always:
            return
        self.known.add(path)
        name = path[1:].encode() + b"\0"
        numbers = [len(self.known), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        for part in (b"070701" + b"".join(b"%08x" % n for n in numbers) + name, data):
            self.file.write(part + bytes(-len(part) % 4))


def guest(program, kernel, to):
    with tempfile.TemporaryDirectory() as scratch, open(to, "wb") as file:
        archive = Archive(file)
        stripped = os.path.join(scratch, "nfv")
        subprocess.run(["strip", "-o", stripped, program], check=True)
        archive.program("/usr/bin/nfv", stripped)
        for name in PROGRAMS:
            archive.program(name, os.path.realpath(name))
        for name in ["modprobe", "lsmod"]:
            archive.link(f"/usr/sbin/{name}", "../bin/kmod")
        for plugin in glob.glob("/usr/lib/*/dpdk/pmds-*/librte_*.so.*.*"):
            name = re.search(r"librte_(\w+)\.so", plugin).group(1)
            if name in PLUGINS:
                archive.program(plugin)
        for module in glob.glob(os.path.join(kernel, "lib/modules/*/*")):
            archive.add("/usr/" + os.path.relpath(module, kernel), module, 0o644)
        for folder, names in [("chains", "*"), ("scripts", "*.sh")]:
            for one in glob.glob(os.path.join(ROOT, folder, names)):
                if os.path.isfile(one):
                    archive.add(f"/root/{folder}/{os.path.basename(one)}", one)
        for one in glob.glob(os.path.join(os.path.dirname(__file__), "*.yaml")):
            archive.add(f"/root/chains/{os.path.basename(one)}", one)
        archive.add("/init", os.path.join(os.path.dirname(__file__), "init"))
        archive.end()


if __name__ == "__main__":
    {"unpack": unpack, "guest": guest}[sys.argv[1]](*sys.argv[2:])
