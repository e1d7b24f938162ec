//! What is counted; the names are those of Suricata's statistics where it has the same.

use nfv_core::nf::Named;
use nfv_core::packet::protocol::TCP;

use crate::ids::app::Protocol;
use crate::ids::eve::DropReason;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "`Counter::NAMES` says what each is")]
pub enum Counter {
    Packets,
    Bytes,
    Invalid,
    Vlan,
    Nsh,
    Ipv4,
    Ipv6,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    Tunnelled,
    BadChecksums,
    Flows,
    FlowsTcp,
    FlowsUdp,
    FlowsIcmp,
    FlowsOther,
    FlowsRefused,
    FlowsForced,
    Bypassed,
    Alerts,
    AlertsSuppressed,
    Dropped,
    Rejected,
    Rewritten,
    Predicted,
    AppsShed,
    TransactionsShed,
    Records,
    Fragments4,
    Fragments6,
    Reassembled4,
    Reassembled6,
    FragmentsOverlap,
    FragmentsTimeout,
    FragmentsShed,
    Ethernet,
    AppHttp,
    AppTls,
    AppSsh,
    AppDnsTcp,
    AppDnsUdp,
    AppOther,
    AppFailed,
    AlertsOverflow,
    DroppedByRules,
    DroppedByRates,
    DroppedByFlow,
    DroppedByStream,
    DroppedByList,
}

/// The counters of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Counters([u64; COUNT]);

impl Counter {
    /// Name and meaning of each, by its number.
    pub const NAMES: [Named; COUNT] = [
        Named { name: "decoder.pkts", help: "packets, those that others carry included" },
        Named { name: "decoder.bytes", help: "bytes of frames" },
        Named { name: "decoder.invalid", help: "packets whose headers cannot be read" },
        Named { name: "decoder.vlan", help: "packets with a VLAN tag" },
        Named { name: "decoder.nsh", help: "packets with a network service header" },
        Named { name: "decoder.ipv4", help: "packets of IPv4" },
        Named { name: "decoder.ipv6", help: "packets of IPv6" },
        Named { name: "decoder.tcp", help: "packets of TCP" },
        Named { name: "decoder.udp", help: "packets of UDP" },
        Named { name: "decoder.sctp", help: "packets of SCTP" },
        Named { name: "decoder.icmpv4", help: "packets of ICMP" },
        Named { name: "decoder.icmpv6", help: "packets of ICMPv6" },
        Named { name: "decoder.tunnelled", help: "packets that others carried" },
        Named { name: "tcp.invalid_checksum", help: "segments with a wrong checksum" },
        Named { name: "flow.total", help: "flows" },
        Named { name: "flow.tcp", help: "of those, of TCP" },
        Named { name: "flow.udp", help: "of those, of UDP" },
        Named { name: "flow.icmp", help: "of those, of ICMP and ICMPv6" },
        Named { name: "flow.other", help: "of those, of other protocols" },
        Named { name: "flow.memcap", help: "packets whose flow found no room" },
        Named { name: "flow.forced", help: "flows that made room for new ones" },
        Named { name: "flow_bypassed.local_pkts", help: "packets of flows that are let go" },
        Named { name: "detect.alert", help: "alerts" },
        Named { name: "detect.alerts_suppressed", help: "matches that a limit has not told" },
        Named { name: "ips.blocked", help: "packets that were dropped" },
        Named { name: "ips.rejected", help: "packets whose ends are told that they were dropped" },
        Named { name: "ips.replaced", help: "packets whose bytes were made what passed before" },
        Named { name: "tcp.predicted", help: "segments that were what was expected" },
        Named { name: "app_layer.shed", help: "flows whose application made room for others" },
        Named {
            name: "app_layer.tx_shed",
            help: "transactions given up because a flow had too many",
        },
        Named { name: "eve.records", help: "records that were made" },
        Named { name: "defrag.ipv4.fragments", help: "fragments of IPv4" },
        Named { name: "defrag.ipv6.fragments", help: "fragments of IPv6" },
        Named { name: "defrag.ipv4.reassembled", help: "datagrams of IPv4 that became whole" },
        Named { name: "defrag.ipv6.reassembled", help: "datagrams of IPv6 that became whole" },
        Named { name: "defrag.overlaps", help: "fragments that overlapped others" },
        Named { name: "defrag.timeouts", help: "datagrams that were waited for too long" },
        Named { name: "defrag.memcap", help: "datagrams that made room for others" },
        Named { name: "decoder.ethernet", help: "frames of Ethernet" },
        Named { name: "app_layer.flow.http", help: "flows that speak HTTP" },
        Named { name: "app_layer.flow.tls", help: "flows that speak TLS" },
        Named { name: "app_layer.flow.ssh", help: "flows that speak SSH" },
        Named { name: "app_layer.flow.dns_tcp", help: "flows that speak DNS over TCP" },
        Named { name: "app_layer.flow.dns_udp", help: "flows that speak DNS over UDP" },
        Named { name: "app_layer.flow.other", help: "flows that speak what is known by name only" },
        Named { name: "app_layer.flow.failed", help: "flows that speak nothing that is known" },
        Named {
            name: "detect.alert_queue_overflow",
            help: "alerts beyond what is told of a packet",
        },
        Named { name: "ips.drop_reason.rules", help: "packets that a rule dropped" },
        Named {
            name: "ips.drop_reason.threshold_detection_filter",
            help: "packets that a rule's rate filter dropped",
        },
        Named { name: "ips.drop_reason.flow_drop", help: "packets of flows that are dropped" },
        Named {
            name: "ips.drop_reason.stream_error",
            help: "segments that no receiver would take",
        },
        Named { name: "ips.drop_reason.blocklist", help: "packets of what is on a blocklist" },
    ];

    /// The packets that are dropped for a reason.
    pub(super) fn of_drop(reason: DropReason) -> Self {
        match reason {
            DropReason::Rules => Self::DroppedByRules,
            DropReason::Threshold => Self::DroppedByRates,
            DropReason::FlowDrop => Self::DroppedByFlow,
            DropReason::StreamError => Self::DroppedByStream,
            DropReason::Blocklist => Self::DroppedByList,
        }
    }

    /// The flows of an application; DNS has two, by what carries it.
    pub(super) fn of_app(protocol: Protocol, carrier: u8) -> Self {
        match protocol {
            Protocol::Http => Self::AppHttp,
            Protocol::Tls => Self::AppTls,
            Protocol::Ssh => Self::AppSsh,
            Protocol::Dns if carrier == TCP => Self::AppDnsTcp,
            Protocol::Dns => Self::AppDnsUdp,
            Protocol::Failed => Self::AppFailed,
            _ => Self::AppOther,
        }
    }
}

impl Counters {
    /// One of them.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(usize::from(counter as u8)).copied().unwrap_or_default()
    }

    /// Each, with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Counter::NAMES.iter().map(|named| named.name).zip(self.0)
    }

    #[inline]
    pub(super) fn add(&mut self, counter: Counter, more: u64) {
        if let Some(count) = self.0.get_mut(usize::from(counter as u8)) {
            *count += more;
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

const COUNT: usize = 52;
