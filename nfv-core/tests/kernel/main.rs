//! The kernel twin and the kernel's tables, against a real kernel: what `ip` changes the dataplane knows within 100 ms,
//! and frames pass between the dataplane's end and the kernel's stack.
mod frames;
mod rig;

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nfv_core::control::netlink::{Action, Hop, KernelEvent, RouteKey};
use nfv_core::control::twin::{Carrier, Twin, TwinConfig, TwinError};

use self::rig::{Heard, MAC, Rig, in_namespace, ip, lan, setting, words};

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key(prefix: &str, metric: u32) -> RouteKey {
    RouteKey { prefix: prefix.parse().expect("a prefix"), metric }
}

#[test]
fn the_first_reading_tells_what_the_twin_was_made_with() {
    in_namespace("the_first_reading_tells_what_the_twin_was_made_with", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        let told = rig.resync().await;
        let on_link = Action::Forward(vec![Hop { via: None, interface, weight: 1 }]);
        for wanted in [
            KernelEvent::Link { interface, up: true },
            KernelEvent::Address { interface, address: "10.9.0.1/24".parse().expect("a net") },
            KernelEvent::Route { key: key("10.9.0.0/24", 0), action: on_link },
        ] {
            assert!(told.contains(&wanted), "{wanted:?} is not in {told:?}");
        }
    });
}

#[test]
fn what_ip_changes_is_told_within_100_ms() {
    in_namespace("what_ip_changes_is_told_within_100_ms", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        let second = "10.8.0.1/24".parse().expect("a net");
        ip("addr add 10.8.0.1/24 dev lan");
        rig.expect(KernelEvent::Address { interface, address: second }).await;
        let peer = address("10.9.0.2");
        ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev lan");
        rig.expect(KernelEvent::Neighbour { interface, address: peer, mac: PEER }).await;
        ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:03 dev lan");
        let mac = [2, 0, 0, 0, 0, 3];
        rig.expect(KernelEvent::Neighbour { interface, address: peer, mac }).await;
        let hop = |via| Hop { via: Some(address(via)), interface, weight: 1 };
        let route = |via| KernelEvent::Route {
            key: key("172.16.0.0/12", 7),
            action: Action::Forward(vec![hop(via)]),
        };
        ip("route add 172.16.0.0/12 via 10.9.0.2 metric 7");
        rig.expect(route("10.9.0.2")).await;
        ip("route replace 172.16.0.0/12 via 10.9.0.9 metric 7");
        rig.expect(route("10.9.0.9")).await;
        ip("route del 172.16.0.0/12 metric 7");
        rig.expect(KernelEvent::RouteGone { key: key("172.16.0.0/12", 7) }).await;
        ip("neigh del 10.9.0.2 dev lan");
        rig.expect(KernelEvent::NeighbourGone { interface, address: peer }).await;
        ip("addr del 10.8.0.1/24 dev lan");
        rig.expect(KernelEvent::AddressGone { interface, address: second }).await;
        ip("link set lan down");
        rig.expect(KernelEvent::Link { interface, up: false }).await;
    });
}

#[test]
fn all_hops_of_a_route_are_told_and_routes_that_refuse_too() {
    in_namespace("all_hops_of_a_route_are_told_and_routes_that_refuse_too", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24", "fd09::1/64"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        let hop = |via, weight| Hop { via: Some(address(via)), interface, weight };
        ip("route add 172.16.0.0/12 nexthop via 10.9.0.2 weight 1 nexthop via 10.9.0.3 weight 4");
        let action = Action::Forward(vec![hop("10.9.0.2", 1), hop("10.9.0.3", 4)]);
        rig.expect(KernelEvent::Route { key: key("172.16.0.0/12", 0), action }).await;

        ip("-6 route add fd16::/16 nexthop via fe80::2 dev lan nexthop via fe80::3 dev lan");
        let action = Action::Forward(vec![hop("fe80::2", 1), hop("fe80::3", 1)]);
        rig.expect(KernelEvent::Route { key: key("fd16::/16", 1024), action }).await;
        ip("-6 route del fd16::/16 via fe80::2 dev lan");
        let action = Action::Forward(vec![hop("fe80::3", 1)]);
        rig.expect(KernelEvent::Route { key: key("fd16::/16", 1024), action }).await;

        for (kind, action) in [
            ("blackhole", Action::Blackhole),
            ("unreachable", Action::Unreachable),
            ("prohibit", Action::Prohibit),
        ] {
            ip(&format!("route replace {kind} 192.0.2.0/24"));
            rig.expect(KernelEvent::Route { key: key("192.0.2.0/24", 0), action }).await;
        }
    });
}

#[test]
fn a_route_by_a_next_hop_object_is_told_and_goes_with_the_object() {
    in_namespace("a_route_by_a_next_hop_object_is_told_and_goes_with_the_object", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        ip("nexthop add id 42 via 10.9.0.2 dev lan");
        ip("route add 172.16.0.0/12 nhid 42");
        let hop = Hop { via: Some(address("10.9.0.2")), interface, weight: 1 };
        let key = key("172.16.0.0/12", 0);
        rig.expect(KernelEvent::Route { key, action: Action::Forward(vec![hop]) }).await;
        ip("nexthop del id 42");
        rig.expect(KernelEvent::RouteGone { key }).await;
    });
}

#[test]
fn routes_that_go_with_an_address_are_told_gone() {
    in_namespace("routes_that_go_with_an_address_are_told_gone", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24", "10.8.0.1/24"])).await;
        rig.resync().await;
        ip("route add 172.16.0.0/12 via 10.9.0.2 src 10.8.0.1");
        ip("addr del 10.8.0.1/24 dev lan");
        rig.expect(KernelEvent::RouteGone { key: key("172.16.0.0/12", 0) }).await;
    });
}

#[test]
fn routes_that_go_with_the_link_are_told_gone() {
    in_namespace("routes_that_go_with_the_link_are_told_gone", async || {
        // An IPv6 address that goes with the link would give it away.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("set");
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        rig.resync().await;
        ip("route add 172.16.0.0/12 via 10.9.0.2");
        ip("link set lan down");
        rig.expect(KernelEvent::RouteGone { key: key("172.16.0.0/12", 0) }).await;
    });
}

#[test]
fn a_flood_of_changes_that_overruns_the_socket_is_told_in_full() {
    in_namespace("a_flood_of_changes_that_overruns_the_socket_is_told_in_full", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        rig.resync().await;
        let batch: String = (0..ROUTES)
            .map(|n| format!("route add 172.{}.{}.0/24 via 10.9.0.2\n", n / 256, n % 256))
            .collect();
        let file = std::env::temp_dir().join(format!("nfvk-{}.batch", std::process::id()));
        std::fs::write(&file, batch).expect("a batch file");
        // The runtime stands still meanwhile, so the socket fills.
        ip(&format!("-batch {}", file.display()));
        std::fs::remove_file(&file).expect("the batch file goes");
        let told = rig.resync().await;
        let routes = told.iter().filter(|e| matches!(e, KernelEvent::Route { .. })).count();
        assert_eq!(routes, ROUTES);
    });
}
const ROUTES: usize = 20_000;

#[test]
fn the_kernel_asks_for_a_neighbour_through_the_twin_and_its_answer_is_told() {
    in_namespace(
        "the_kernel_asks_for_a_neighbour_through_the_twin_and_its_answer_is_told",
        async || {
            let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
            let interface = rig.twin.interface();
            rig.resync().await;
            let peer = address("10.9.0.2");
            assert!(rig.neighbours.resolve(interface, peer));
            let request = rig.frame(Duration::from_secs(1), frames::is_arp_request).await;
            assert_eq!(request.get(6..12), Some(MAC.as_slice()), "comes from the port's MAC");
            rig.send(frames::arp_reply(&request, PEER));
            rig.expect(KernelEvent::Neighbour { interface, address: peer, mac: PEER }).await;
        },
    );
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_gone() {
    in_namespace("a_neighbour_that_does_not_answer_is_told_gone", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        let peer = address("10.9.0.2");
        assert!(rig.neighbours.resolve(interface, peer));
        // The kernel tries three times, a second apart.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        rig.expect(KernelEvent::NeighbourGone { interface, address: peer }).await;
    });
}

#[test]
fn ipv6_neighbours_are_asked_for_too() {
    in_namespace("ipv6_neighbours_are_asked_for_too", async || {
        let mut rig = Rig::start(lan(&["fd09::1/64"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        // Duplicate detection comes first.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(rig.neighbours.resolve(interface, address("fd09::2")));
        let for_peer = |frame: &[u8]| frames::is_solicitation_for(frame, "fd09::2");
        rig.frame(Duration::from_secs(2), for_peer).await;
    });
}

#[test]
fn a_stale_neighbour_in_use_is_probed_and_an_unused_one_is_not() {
    in_namespace("a_stale_neighbour_in_use_is_probed_and_an_unused_one_is_not", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        std::fs::write("/proc/sys/net/ipv4/neigh/lan/delay_first_probe_time", "1").expect("set");
        ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev lan nud stale");
        ip("neigh add 10.9.0.3 lladdr 02:00:00:00:00:03 dev lan nud stale");
        let peer = address("10.9.0.2");
        rig.expect(KernelEvent::Neighbour { interface, address: peer, mac: PEER }).await;
        assert!(rig.neighbours.in_use(interface, peer));
        let any = |frame: &[u8]| frames::is_arp_request(frame);
        let probe = rig.frame(Duration::from_secs(3), any).await;
        assert_eq!(probe.get(..6), Some(PEER.as_slice()), "sent to the one in use, by unicast");
        rig.send(frames::arp_reply(&probe, PEER));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let gone = |heard: &Heard| matches!(heard, Heard::Event(KernelEvent::NeighbourGone { .. }));
        assert!(!rig.told().iter().any(gone), "it answered");
    });
}

#[test]
fn the_kernel_answers_a_ping_that_the_dataplane_passes_on() {
    in_namespace("the_kernel_answers_a_ping_that_the_dataplane_passes_on", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        rig.resync().await;
        ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev lan");
        rig.send(frames::echo_request(PEER, MAC, [10, 9, 0, 2], [10, 9, 0, 1]));
        let reply = rig.frame(Duration::from_secs(1), frames::is_echo_reply).await;
        assert_eq!(reply.get(..6), Some(PEER.as_slice()));
        assert!(rig.twin.counts().to_kernel >= 1 && rig.twin.counts().from_kernel >= 1);
    });
}

#[test]
fn a_frame_that_the_kernel_refuses_is_counted() {
    in_namespace("a_frame_that_the_kernel_refuses_is_counted", async || {
        let mut rig = Rig::start(lan(&[])).await;
        rig.resync().await;
        rig.send(vec![0; 5]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(rig.twin.counts().refused_by_kernel, 1);
    });
}

#[test]
fn a_port_without_link_shows_in_the_kernel() {
    in_namespace("a_port_without_link_shows_in_the_kernel", async || {
        let mut rig = Rig::start(lan(&["10.9.0.1/24"])).await;
        let interface = rig.twin.interface();
        rig.resync().await;
        rig.twin.set_carrier(Carrier::Absent).await.expect("the carrier goes");
        rig.expect_within(CARRIER_PAUSE, KernelEvent::Link { interface, up: false }).await;
        rig.twin.set_carrier(Carrier::Present).await.expect("the carrier comes");
        rig.expect_within(CARRIER_PAUSE, KernelEvent::Link { interface, up: true }).await;
    });
}

/// The kernel acts on changes of carriers, of all interfaces together, once a second (`net/core/link_watch.c`).
const CARRIER_PAUSE: Duration = Duration::from_millis(2500);

#[test]
fn the_twin_does_not_forward_though_its_host_does() {
    in_namespace("the_twin_does_not_forward_though_its_host_does", async || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("set");
        let _twin = Twin::create(&lan(&["10.9.0.1/24"])).await.expect("a twin");
        assert_eq!(setting("ipv4/conf/lan/forwarding"), "0");
        assert_eq!(setting("ipv4/conf/lan/rp_filter"), "0");
        assert_eq!(setting("ipv6/conf/lan/accept_ra"), "0");
        assert_eq!(setting("ipv6/conf/lan/forwarding"), "1", "shows itself as a router");
        assert_eq!(setting("ipv6/conf/all/forwarding"), "0", "and is none");
        assert_eq!(setting("ipv4/ip_forward"), "1", "the host's own choice stands");
    });
}

#[test]
fn an_ipv6_address_works_where_ipv6_is_off_by_default() {
    in_namespace("an_ipv6_address_works_where_ipv6_is_off_by_default", async || {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("set");
        let _twin = Twin::create(&lan(&["fd09::1/64"])).await.expect("a twin");
        assert_eq!(setting("ipv6/conf/lan/disable_ipv6"), "0");
    });
}

#[test]
fn a_name_that_is_taken_is_an_error_that_says_so() {
    in_namespace("a_name_that_is_taken_is_an_error_that_says_so", async || {
        let first = Twin::create(&lan(&[])).await.expect("a twin");
        let error = words(Twin::create(&lan(&[])).await);
        assert!(error.contains("port `lan`") && error.contains("ip link del lan"), "{error}");
        drop(first);
        Twin::create(&lan(&[])).await.expect("the name is free once the twin has gone");
        ip("tuntap add name kept mode tap");
        let kept = TwinConfig { name: "kept".to_owned(), ..lan(&[]) };
        let error = words(Twin::create(&kept).await);
        assert!(error.contains("exists already"), "a persistent TAP is not joined: {error}");
    });
}

#[test]
fn a_killed_process_leaves_no_twin() {
    const NAME: &str = "a_killed_process_leaves_no_twin";
    const VICTIM: &str = "NFV_TEST_VICTIM";
    in_namespace(NAME, async || {
        if std::env::var_os(VICTIM).is_some() {
            let _twin = Twin::create(&lan(&[])).await.expect("a twin");
            return std::future::pending().await;
        }
        let this = std::env::current_exe().expect("the test binary has a path");
        let mut victim = Command::new(this);
        let mut victim = victim.args(["--exact", NAME]).env(VICTIM, "1").spawn().expect("a child");
        let late = Instant::now() + Duration::from_secs(10);
        while !Path::new("/proc/sys/net/ipv4/conf/lan").exists() && Instant::now() < late {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let taken = Twin::create(&lan(&[])).await;
        victim.kill().expect("a kill");
        victim.wait().expect("an end");
        assert!(matches!(taken, Err(TwinError::Taken { .. })), "the victim had it: {taken:?}");
        Twin::create(&lan(&[])).await.expect("the name is free");
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_named_with_the_remedy() {
    in_namespace("a_value_that_the_kernel_refuses_is_named_with_the_remedy", async || {
        let group = TwinConfig { mac: [1, 0, 0, 0, 0, 1], ..lan(&[]) };
        let small = TwinConfig { mtu: 1000, ..lan(&["fd09::1/64"]) };
        let twice = lan(&["10.9.0.1/24", "10.9.0.1/24"]);
        for (config, what, remedy) in [
            (group, "01:00:00:00:00:01", "unicast"),
            (small, "fd09::1/64", "1280"),
            (twice, "10.9.0.1/24", "twice"),
        ] {
            let error = words(Twin::create(&config).await);
            assert!(error.contains(what) && error.contains(remedy), "{error}");
        }
        Twin::create(&lan(&[])).await.expect("a failed twin leaves nothing behind");
    });
}

#[test]
fn a_twin_that_is_removed_ends_its_pump_with_the_reason() {
    in_namespace("a_twin_that_is_removed_ends_its_pump_with_the_reason", async || {
        let mut rig = Rig::start(lan(&[])).await;
        rig.resync().await;
        ip("link del lan");
        let end = tokio::time::timeout(Duration::from_secs(1), &mut rig.pump).await;
        let error = end.expect("the pump ends").expect("and does not panic");
        assert!(matches!(error, TwinError::Removed { .. }), "{error}");
    });
}
