//! chains/edge.yaml on the network: the inside opens flows, of the outside only the web service is reached, a reload
//! breaks nothing.

mod testkit;

use testkit::{ROUTED, Rig, is_root, must, skip};

#[test]
fn the_inside_opens_flows_and_of_the_outside_only_the_service_is_reached() {
    if !is_root() {
        return skip("edge", "making namespaces needs root");
    }
    let mut rig = Rig::start_with("chains/edge.yaml", &ROUTED);
    let lan = rig.namespace("lan");
    for server in ["10.1.0.11", "10.1.0.12"] {
        must(&format!("ip -n {lan} addr add {server}/24 dev eth0"));
    }
    rig.serve("lan", 80, &["python3", "-m", "http.server", "80"]);
    rig.serve("wan", 80, &["python3", "-m", "http.server", "80"]);
    let get = |to: &str| format!("curl -sf --max-time 3 -o /dev/null http://{to}/");

    rig.wait_until("lan reaches wan", || rig.succeeds("lan", &get("10.2.0.2")));
    rig.wait_until("the service answers", || rig.succeeds("wan", &get("198.51.100.80")));
    for unasked in ["10.1.0.11", "10.1.0.2", "198.51.100.10"] {
        assert!(!rig.succeeds("wan", &get(unasked)), "{unasked} is not reached");
    }
    let flows = rig.ask(&["flows", "outbound tcp"]);
    assert!(flows.contains(" as 198.51.100.1"), "it leaves under an outside address: {flows}");
    let flows = rig.ask(&["flows", "inbound tcp"]);
    assert!(flows.contains("-> 198.51.100.80:80 at 10.1.0.1"), "it is a server's: {flows}");
    assert!(rig.ask(&["reload"]).starts_with("reloaded "));
    rig.on("wan", &get("198.51.100.80"));

    let summary = rig.finish();
    assert!(summary.contains("unsolicited"), "what nobody asked for is counted:\n{summary}");
}
