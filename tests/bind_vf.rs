//! scripts/bind-vf.sh on a made-up tree of `/sys`, with an `ip` and a `modprobe` that only note what they are asked.
//! tests/vm has it make real virtual functions.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use tempfile::TempDir;

const PF: &str = "0000:03:00.0";
const VFS: [&str; 2] = ["0000:03:02.0", "0000:03:02.1"];

/// A machine with a PF, `ens3f0`, that makes two VFs at most.
struct Machine(TempDir);

impl Machine {
    /// Whose PF has this driver, and whose VFs come to that one.
    fn with(pf_driver: &str, vf_driver: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for (address, driver) in [(PF, pf_driver), (VFS[0], vf_driver), (VFS[1], vf_driver)] {
            machine.file(&format!("bus/pci/devices/{address}/driver_override"), "");
            machine.file(&format!("bus/pci/drivers/{driver}/unbind"), "");
            machine.link(
                &format!("bus/pci/devices/{address}/driver"),
                &format!("bus/pci/drivers/{driver}"),
            );
        }
        machine.file("bus/pci/drivers_probe", "");
        for (file, text) in
            [("sriov_totalvfs", "2\n"), ("sriov_numvfs", "0\n"), ("sriov_drivers_autoprobe", "1\n")]
        {
            machine.file(&format!("bus/pci/devices/{PF}/{file}"), text);
        }
        for (number, vf) in VFS.iter().enumerate() {
            machine.link(
                &format!("bus/pci/devices/{PF}/virtfn{number}"),
                &format!("bus/pci/devices/{vf}"),
            );
        }
        machine.file(&format!("bus/pci/devices/{PF}/net/ens3f0/address"), "");
        machine.file("class/net/ens3f0/address", "3c:fd:fe:a1:b2:c3\n");
        machine.link("class/net/ens3f0/device", &format!("bus/pci/devices/{PF}"));
        machine.file("class/net/lo/address", "00:00:00:00:00:00\n");
        machine.file("module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n");
        for program in ["ip", "modprobe"] {
            let path = format!("bin/{program}");
            machine.file(&path, "#!/bin/sh\necho \"${0##*/} $*\" >>\"$SYSFS_ROOT/asked\"\n");
            let runs = fs::Permissions::from_mode(0o755);
            fs::set_permissions(machine.path(&path), runs).unwrap();
        }
        machine
    }

    fn with_iommu(self) -> Self {
        self.file("kernel/iommu_groups/7/name", "");
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        symlink(self.path(to), self.path(path)).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// What of the PF, or of a VF, stands in a file.
    fn of(&self, address: &str, file: &str) -> String {
        self.text(&format!("bus/pci/devices/{address}/{file}")).trim().to_owned()
    }

    /// Runs the script. Returns how it ended, and what it said.
    fn run(&self, words: &str) -> (i32, String) {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new("scripts/bind-vf.sh")
            .args(words.split_whitespace())
            .env("SYSFS_ROOT", self.0.path())
            .env("PATH", path)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn succeeds(&self, words: &str) -> String {
        let (status, said) = self.run(words);
        assert_eq!(status, 0, "{words}: {said}");
        said
    }

    fn fails(&self, words: &str, why: &str) {
        let (status, said) = self.run(words);
        assert_eq!(status, 1, "{words}: {said}");
        assert!(said.contains(why), "{words}: {said}");
    }
}

#[test]
fn vfs_are_made_set_up_and_given_to_vfio_pci() {
    let machine = Machine::with("ice", "vfio-pci").with_iommu();
    let said = machine.succeeds("ens3f0 2 --vlan 100 --mtu 9000");
    assert!(said.contains("EAL options:  -a 0000:03:02.0 -a 0000:03:02.1\n"), "{said}");
    assert!(said.contains("ports:\n  port0: { device: \"0000:03:02.0\" }\n  port1: {"), "{said}");
    let asked = machine.text("asked");
    for line in [
        "modprobe vfio-pci",
        "ip link set dev ens3f0 mtu 9000",
        "ip link set dev ens3f0 vf 0 mac 02:fe:a1:b2:c3:00",
        "ip link set dev ens3f0 vf 1 mac 02:fe:a1:b2:c3:01",
        "ip link set dev ens3f0 vf 1 vlan 100",
        "ip link set dev ens3f0 vf 1 trust on",
        "ip link set dev ens3f0 vf 1 spoofchk off",
    ] {
        assert!(asked.lines().any(|asked| asked == line), "{line}, of:\n{asked}");
    }
    assert_eq!(machine.of(PF, "sriov_numvfs"), "2");
    assert_eq!(machine.of(PF, "sriov_drivers_autoprobe"), "1", "it is as it was");
    assert!(VFS.iter().all(|vf| machine.of(vf, "driver_override") == "vfio-pci"));

    // The PF by its address is the same PF, and what is there already is set up again.
    machine.succeeds("03:00.0 2");
    machine.fails("ens3f0 1", "has 2 VFs already");
}

#[test]
fn what_was_made_is_taken_back() {
    let machine = Machine::with("ice", "vfio-pci");
    machine.file("module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    machine.succeeds("ens3f0 2 --no-iommu");
    let said = machine.succeeds("--undo ens3f0");
    assert!(said.contains("has no VFs any more"), "{said}");
    assert_eq!(machine.of(PF, "sriov_numvfs"), "0");
    assert!(VFS.iter().all(|vf| machine.of(vf, "driver_override").is_empty()));
    let mode = machine.text("module/vfio/parameters/enable_unsafe_noiommu_mode");
    assert_eq!(mode.trim(), "0", "the machine is safe again");
}

#[test]
fn without_an_iommu_nothing_is_done_unless_the_risk_is_taken() {
    let machine = Machine::with("ice", "vfio-pci");
    machine.fails("ens3f0 2", "there is no IOMMU");
    assert_eq!(machine.of(PF, "sriov_numvfs"), "0");
    let said = machine.succeeds("ens3f0 2 --no-iommu");
    assert!(said.contains("WARNING: no IOMMU") && said.contains("all memory"), "{said}");
    let mode = machine.text("module/vfio/parameters/enable_unsafe_noiommu_mode");
    assert_eq!(mode.trim(), "1");
}

#[test]
fn vfs_of_mlx5_stay_with_their_kernel_driver() {
    let machine = Machine::with("mlx5_core", "mlx5_core");
    let said = machine.succeeds("ens3f0 2");
    assert!(said.contains("2 VFs of ens3f0 are ready, with mlx5_core"), "{said}");
    assert!(!machine.text("asked").contains("vfio"), "{}", machine.text("asked"));
    assert!(VFS.iter().all(|vf| machine.of(vf, "driver_override").is_empty()));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_changed() {
    let machine = Machine::with("ice", "vfio-pci").with_iommu();
    machine.fails("ens4 2", "there is no interface ens4; there are: ens3f0 lo");
    machine.fails("lo 2", "lo is no device on PCI");
    machine.fails("0000:05:00.0 2", "there is no PCI device 0000:05:00.0");
    machine.fails("0000:03:02.0 2", "makes no VFs");
    machine.fails("ens3f0 3", "makes at most 2 VFs");
    machine.fails("ens3f0 0", "how many VFs?");
    machine.fails("ens3f0", "how many VFs?");
    assert_eq!(machine.run("ens3f0 2 --vlna 7").0, 2);
    assert_eq!(machine.run("").0, 2);
    assert_eq!(machine.of(PF, "sriov_numvfs"), "0");
    assert_eq!(machine.text("asked"), "");
}

#[test]
fn a_pf_without_its_kernel_driver_and_a_vf_that_keeps_its_own_are_told() {
    let machine = Machine::with("vfio-pci", "vfio-pci").with_iommu();
    fs::remove_dir_all(machine.path(&format!("bus/pci/devices/{PF}/net"))).unwrap();
    machine.fails("0000:03:00.0 2", "is with vfio-pci: it must be with its kernel driver");
    let machine = Machine::with("igb", "igbvf").with_iommu();
    machine.fails("ens3f0 2", "0000:03:02.0 did not take vfio-pci");
}

#[test]
fn scripts_have_no_known_mistake() {
    let scripts = ["bind-vf.sh", "hugepages.sh", "run.sh", "test.sh", "bench.sh"];
    let scripts = scripts.map(|name| format!("scripts/{name}"));
    let check = Command::new("shellcheck").arg("-x").args(&scripts).arg("tests/vm/run.sh").output();
    let Ok(check) = check else {
        return println!("SKIPPED shellcheck: it is not installed");
    };
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
