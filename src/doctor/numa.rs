//! NUMA: a port, the workers that serve it and the memory of its packets belong on one node.
use super::devices::Wanted;
use super::finding::{Finding, Severity};
use super::hugepages::{HugePages, Size, name};
use super::machine::Machine;
use super::pci::PciDevice;
use crate::eal_args::{AsSet, read_set};

/// The nodes of the machine, ascending.
pub(super) fn nodes(machine: &Machine) -> Vec<u32> {
    let names = machine.names(NODES);
    let mut nodes: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
    nodes.sort_unstable();
    nodes
}

/// The CPUs of a node, ascending.
fn cpus_of(machine: &Machine, node: u32) -> Vec<u32> {
    let list = machine.text(&format!("{NODES}/node{node}/cpulist"));
    list.and_then(|list| read_set(&list)).unwrap_or_default()
}

/// Says which ports are far from their workers or their memory. `workers` are the CPUs of workers,
/// `room` those that this process may have.
pub(super) fn examine(
    machine: &Machine,
    wanted: &[Wanted],
    pages: &HugePages,
    workers: &[u32],
    room: &[u32],
) -> Vec<Finding> {
    if nodes(machine).len() < 2 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for wanted in wanted {
        let device = wanted.pci_address().and_then(|address| PciDevice::read(machine, &address));
        let Some(node) = device.and_then(|device| device.node) else { continue };
        let near = cpus_of(machine, node);
        let subject = wanted.subject.as_str();
        if !near.is_empty() && !workers.is_empty() && !workers.iter().any(|cpu| near.contains(cpu))
        {
            findings.push(far_workers(subject, node, &near, workers, room));
        }
        findings.extend(far_memory(machine, subject, node, pages));
    }
    findings
}

fn far_workers(subject: &str, node: u32, near: &[u32], workers: &[u32], room: &[u32]) -> Finding {
    let found = format!("the device is on node {node}, and no worker is");
    let finding = Finding::new(Severity::Warning, subject, found)
        .because("each packet crosses the link between the nodes; a third of the rate goes there");
    let fitting: Vec<u32> = near.iter().copied().filter(|cpu| room.contains(cpu)).collect();
    // One more than there are workers, for control.
    match fitting.get(..(workers.len() + 1).min(fitting.len())) {
        Some(list) if list.len() > 1 => finding.fix([format!("nfv run -l {} ...", AsSet(list))]),
        _ => finding.fix([format!("# let this process have CPUs of node {node}: {}", AsSet(near))]),
    }
}

fn far_memory(machine: &Machine, subject: &str, node: u32, pages: &HugePages) -> Option<Finding> {
    let on_nodes =
        |size: &Size| size.nodes.iter().fold(0u64, |sum, (_, _, free)| sum.saturating_add(*free));
    let near = |size: &Size| size.nodes.iter().any(|(of, _, free)| *of == node && *free > 0);
    // What the kernel adds on demand is on no node yet, and may come to lie on this one.
    if pages.sizes.iter().any(|size| near(size) || size.free > on_nodes(size)) {
        return None;
    }
    let free_elsewhere = pages.sizes.iter().find(|size| size.free > 0)?;
    let kib = free_elsewhere.kib;
    let count = (HALF_GIB_KIB / kib).max(1);
    let path = format!("{NODES}/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages");
    let found = format!("the device is on node {node}, and no huge page is free there");
    let why = format!("its packets would lie in pages of {} on another node", name(kib));
    let finding = Finding::new(Severity::Warning, subject, found).because(why);
    Some(finding.fix([machine.write_command(count, &path)]))
}

const NODES: &str = "/sys/devices/system/node";
const HALF_GIB_KIB: u64 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::super::devices;
    use super::super::testing::{Tree, ask, one};
    use super::*;

    const VF: &str = "0000:83:02.0";

    fn two_nodes() -> Tree {
        let tree = Tree::new();
        tree.huge_pages(512, 512).pci(VF, "8086:154c", Some("vfio-pci"));
        tree.file(&format!("sys/bus/pci/devices/{VF}/numa_node"), "1");
        for (node, cpus) in [("node0", "0-1"), ("node1", "2-3")] {
            tree.file(&format!("sys/devices/system/node/{node}/cpulist"), cpus);
        }
        tree
    }

    fn pages_on_node_1(tree: &Tree) {
        let base = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
        tree.file(&format!("{base}/nr_hugepages"), "64");
        tree.file(&format!("{base}/free_hugepages"), "64");
    }

    fn examined(tree: &Tree, workers: &[u32]) -> Vec<Finding> {
        let machine = tree.machine();
        let wanted = devices::wanted(&ask(&[], &[VF]));
        examine(&machine, &wanted, &HugePages::read(&machine), workers, &[0, 1, 2, 3])
    }

    #[test]
    fn workers_and_pages_beside_the_device_are_fine() {
        let tree = two_nodes();
        pages_on_node_1(&tree);
        assert_eq!(examined(&tree, &[1, 2]), []);
    }

    #[test]
    fn workers_of_another_node_are_told_which_cpus_are_near() {
        let tree = two_nodes();
        pages_on_node_1(&tree);
        assert_eq!(one(&examined(&tree, &[1]), "no worker is").fix, ["nfv run -l 2-3 ..."]);
    }

    #[test]
    fn pages_of_another_node_are_told_where_to_reserve() {
        let findings = examined(&two_nodes(), &[2]);
        let expected = "echo 256 > \
                        /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
        assert_eq!(one(&findings, "no huge page is free there").fix, [expected]);
    }

    #[test]
    fn one_node_has_nothing_far() {
        let tree = Tree::new();
        tree.huge_pages(512, 512).pci(VF, "8086:154c", Some("vfio-pci"));
        tree.file(&format!("sys/bus/pci/devices/{VF}/numa_node"), "1");
        assert_eq!(examined(&tree, &[1]), []);
    }
}
