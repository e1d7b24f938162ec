//! What an encoder remembers of flows.

/// What is remembered of a flow. Flows that meet at a place of the table disturb each other, and that is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// What tells it from others at its place.
    pub print: u32,
    /// Where headers of it are that the decoder has, and how long they are.
    pub like: Option<(u64, u8)>,
    /// Where headers of it are that the decoder has once it has the bundle of this number: for those behind in it.
    pub fresh: Option<(u32, (u64, u8))>,
    /// Where the next payload is, if the flow goes on as another did.
    pub next: Option<u64>,
    /// Packets in a row of which compression gained nothing.
    pub vain: u8,
    /// Packets to go without another try.
    pub pause: u8,
}

/// A flow's place in the table, and what tells it from others there.
pub fn flow_of(headers: &[u8]) -> (usize, u32) {
    // Addresses and ports, and what else of the first 40 bytes stays in a flow.
    let mut sum = 0x9e37_79b9_7f4a_7c15u64;
    let v4 = headers.first().is_some_and(|b| b >> 4 == 4);
    let range = if v4 { 12..24 } else { 8..44 };
    let (words, _) = headers.get(range).unwrap_or_default().as_chunks::<4>();
    for word in words {
        let product =
            u128::from(sum ^ u64::from(u32::from_le_bytes(*word))) * 0xa076_1d64_78bd_642f;
        sum = (product >> 64) as u64 ^ product as u64;
    }
    let print = (sum >> 32) as u32;
    (print as usize % FLOWS, print)
}

/// Flows that are remembered: 128 KiB.
pub const FLOWS: usize = 4096;
