//! What belongs to a flow besides its own packets: fragments, and ICMP errors about it.

mod testkit;

use testkit::{BRIDGED, Driver, Rig, is_root, skip};

/// Allows what lan begins, and nothing that wan does.
const STATEFUL: &str = "tests/data/stateful.yaml";

#[test]
fn fragments_take_the_way_of_their_flow_in_whatever_order_they_come() {
    if !is_root() {
        return skip("flows", "making namespaces needs root");
    }
    // Not packet sockets: DPDK has the kernel put fragments together there, into frames that it then cuts.
    let rig = Rig::start_on(STATEFUL, &BRIDGED, Driver::AfXdp).expect("XDP sockets are there");
    rig.wait_until("a ping passes", || rig.succeeds("lan", "ping -c1 -W1 10.99.0.2"));
    rig.on("lan", "ping -c 3 -i 0.2 -s 6000 10.99.0.2");
    rig.on("lan", "ping -c 3 -i 0.2 -s 6000 fd00:99::2");
    // The answers are those of a flow: wan may not ask.
    assert!(!rig.succeeds("wan", "ping -c 1 -W 1 -s 6000 10.99.0.1"));
    for order in ["first", "last", "overlap", "tiny"] {
        let line = format!("python3 tests/testkit/fragments.py {order} 10.99.0.1 10.99.0.2");
        let said = rig.on("lan", &line);
        assert_eq!(said.trim() == "answered", matches!(order, "first" | "last"), "{order}");
    }
    let summary = rig.finish();
    for reason in ["fragment_overlap", "fragment_tiny", "unsolicited"] {
        assert!(summary.contains(reason), "{reason} is in the account:\n{summary}");
    }
}

#[test]
fn an_error_about_a_flow_passes_and_one_about_none_does_not() {
    if !is_root() {
        return skip("flows", "making namespaces needs root");
    }
    let rig = Rig::start(STATEFUL);
    // A closed port answers with an ICMP error about the packet that came.
    let probe = "python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                 s.connect((\"10.99.0.2\", 9)); s.settimeout(2); s.send(b\"x\"); s.recv(9)'";
    let refused = testkit::shell(&format!("ip netns exec {} {probe}", rig.namespace("lan")));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("ConnectionRefusedError"), "{why}");
    let summary = rig.finish();
    assert!(!summary.contains("icmp_unrelated"), "{summary}");

    let rig = Rig::start(STATEFUL);
    rig.on("wan", "python3 tests/testkit/unrelated.py 10.99.0.2 10.99.0.1");
    rig.wait_until("it is counted", || rig.ask(&["stats"]).contains("icmp_unrelated"));
    rig.finish();
}
