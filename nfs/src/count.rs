//! `count`: counts packets and bytes, and lets all pass.
//!
//! ```text
//!     in ---->[ count ]----> next      kind: packet NF
//!
//! Keys   none
//! Drops  none
//! Counts ip_packets        packets over IPv4 or IPv6; all packets and bytes are counted for every function anyway
//! Cost   1 ns a packet
//! ```

use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::nf::{Built, Burst, Cx, Kind, Named, PacketNf, Profile, Surroundings};
use nfv_core::packet::L3;

/// The type of NF `count`.
pub const KIND: Kind = Kind {
    name: "count",
    profile: Profile {
        reads_payload: false,
        writes: false,
        drops: false,
        creates: false,
        routes: false,
    },
    keys: &[],
    drops: &[],
    answers: &[],
    counters: &[Named { name: "ip_packets", help: "packets over IPv4 or IPv6" }],
    source: include_str!("count.rs"),
    build,
};

fn build(_: &Section<'_>, _: Surroundings<'_>, _: &mut Report) -> Option<Built> {
    Some(Built::packet(|| Count))
}

#[derive(Debug)]
struct Count;

impl PacketNf for Count {
    fn process(&mut self, burst: &mut Burst, cx: &mut Cx<'_>) {
        let ip = burst.headers().iter().filter(|h| matches!(h.kind, L3::Ipv4 | L3::Ipv6)).count();
        cx.count(0, ip as u64);
    }
}
