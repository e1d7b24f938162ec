//! chains/ratelimit.yaml, by a capture's clock: what is within the rate passes, the rest is counted.

mod testkit;

use testkit::packets::Udp;
use testkit::replayed::Replayed;

const SECOND: u64 = 1_000_000_000;

/// So many packets a second from one source for two seconds.
fn traffic(source: u8, per_second: u64, payload: usize) -> Vec<(u64, Vec<u8>)> {
    let udp = Udp { src: ([10, 1, 0, source], 1000), payload, ..Udp::to([10, 2, 0, 2], 9) };
    (0..2 * per_second).map(|i| (SECOND + i * SECOND / per_second, udp.frame())).collect()
}

#[test]
fn a_source_keeps_its_rate_and_the_excess_is_dropped_by_name() {
    let run = Replayed::of("chains/ratelimit.yaml", traffic(2, 30_000, 18)).succeeded();
    let passed = run.sent("wan").len() as f64;
    // 10,000 a second for two seconds, and the first burst of 100.
    assert!((passed / 20_100.0 - 1.0).abs() < 0.01, "{passed}");
    assert_eq!(run.dropped("fair/over_rate"), 60_000 - passed as u64);
    assert_eq!(run.counter("fair", "passed_packets"), passed as u64);
}

#[test]
fn traffic_within_the_rates_loses_nothing() {
    let run = Replayed::of("chains/ratelimit.yaml", traffic(2, 9_000, 18)).succeeded();
    assert_eq!(run.report["dropped_packets"], 0);
    assert_eq!(run.report["tx_packets"], 18_000);
}

#[test]
fn sources_within_their_own_rates_share_the_line() {
    // 4 sources of 9,000 packets of 1,042 bytes a second are 300 Mbps, on a line of 100.
    let mut frames: Vec<_> = (2..6).flat_map(|source| traffic(source, 9_000, 1000)).collect();
    frames.sort_by_key(|(time, _)| *time);
    let run = Replayed::of("chains/ratelimit.yaml", frames).succeeded();
    assert_eq!(run.dropped("fair/over_rate"), 0);
    let bits = run.sent("wan").iter().map(|f| 8 * f.len() as u64).sum::<u64>() as f64;
    let expected = 200e6 + 256.0 * 1024.0 * 8.0;
    assert!((bits / expected - 1.0).abs() < 0.01, "{bits}");
    assert!(run.dropped("line/over_rate") > 0);
}
