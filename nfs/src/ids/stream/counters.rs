//! What is counted; the names are those of Suricata's `tcp.*` statistics where it has the same.

use nfv_core::nf::Named;

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "`Counter::NAMES` says what each is")]
pub enum Counter {
    Sessions,
    MidstreamPickups,
    SsnMemcapDrop,
    Syn,
    Synack,
    Rst,
    Urg,
    UrgentOobData,
    AckUnseenData,
    InvalidPackets,
    Keepalives,
    Overlap,
    OverlapDiffData,
    StreamDepthReached,
    ReassemblyGap,
    GapBytes,
    SegmentMemcapDrop,
    ShedStreams,
    ShedBytes,
    UnseenDropped,
    ToldBytes,
    Timeouts,
    Surplus,
}

/// The counters of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters([u64; COUNT]);

impl Counter {
    /// Name and meaning of each, by its number.
    pub const NAMES: [Named; COUNT] = [
        Named { name: "sessions", help: "connections that were followed" },
        Named { name: "midstream_pickups", help: "of those, connections whose SYN was not seen" },
        Named { name: "ssn_memcap_drop", help: "packets that would begin one, without room" },
        Named { name: "syn", help: "SYNs" },
        Named { name: "synack", help: "SYN-ACKs" },
        Named { name: "rst", help: "RSTs" },
        Named { name: "urg", help: "segments with urgent data" },
        Named { name: "urgent_oob_data", help: "urgent bytes that were left out of a stream" },
        Named {
            name: "ack_unseen_data",
            help: "segments that acknowledge bytes that were not seen",
        },
        Named { name: "invalid", help: "segments that no receiver would take" },
        Named { name: "keepalives", help: "segments that only ask whether the other side lives" },
        Named { name: "overlap", help: "segments with bytes that another one had" },
        Named { name: "overlap_diff_data", help: "of those, segments whose bytes are others" },
        Named { name: "stream_depth_reached", help: "directions of which enough was seen" },
        Named { name: "reassembly_gap", help: "places where bytes are missing" },
        Named { name: "gap_bytes", help: "bytes that are missing there" },
        Named { name: "segment_memcap_drop", help: "segments whose bytes found no room" },
        Named { name: "shed_streams", help: "connections whose bytes made room for others'" },
        Named { name: "shed_bytes", help: "bytes that made room" },
        Named { name: "unseen_dropped", help: "bytes that no raw rule was shown" },
        Named { name: "told_bytes", help: "bytes that were told in order" },
        Named { name: "timeouts", help: "connections that were idle for too long" },
        Named { name: "surplus", help: "connections that made room for new ones" },
    ];
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

const COUNT: usize = 23;
