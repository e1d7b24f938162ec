//! Datagrams put together from their fragments as their receivers do.
//!
//! The flow engine judges fragments by their extents and lets them pass one by one ([`nfv_core::flow`]); rules need the
//! bytes, and of fragments that overlap those that the receiver keeps (Novak, "Target-Based Fragmentation Reassembly",
//! 2005). Pieces are kept as they came, a datagram is laid out once it is whole: 8 bytes, the unit of offsets, belong to
//! the piece that its receiver would keep. So a fragment far behind reserves nothing.
//!
//! ```text
//!   a later piece, to      first, windows   bsd     bsd-right   linux    solaris, last
//!   an earlier one it       (unless it                                  (windows: if it
//!   overlaps ...            covers it)                                    covers it)
//!   starts before             old           new       old        new      see `wins`
//!   starts at it              old           old       new        new
//!   starts behind             old           old       new        old
//! ```
//!
//! **Bounded** by [`Settings::bytes`]: for a new piece the datagrams go that are waited for the longest; and of one
//! datagram no more is kept than two of the largest size.

use std::collections::{HashMap, VecDeque};

use nfv_core::clock::Time;
use nfv_core::packet::{AddressBytes, L3};

use super::counters::{Counter, Counters};
use super::decode::{Ip, Piece, Remarks};
use crate::ids::stream::{HostPolicies, OverlapPolicy};

/// What fragments may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a worker for datagrams that are not whole yet.
    pub bytes: usize,
    /// How long the rest of one is waited for, in seconds.
    pub timeout: u32,
    /// How receivers treat overlaps.
    pub hosts: HostPolicies,
}

/// Datagrams that are not whole yet.
#[derive(Debug)]
pub(super) struct Datagrams {
    settings: Settings,
    open: HashMap<Key, Datagram>,
    /// In the order in which they began; those that are not open any more are passed over.
    ages: VecDeque<(Key, u64)>,
    held: usize,
    next: u64,
    /// Which piece each unit of a datagram is of; of the one that is laid out.
    owners: Vec<u16>,
}

/// What the fragments of a datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
    vlans: [u16; 3],
    /// Of IPv4; IPv6's fragments may differ in it and belong together all the same.
    protocol: u8,
    is_ipv6: bool,
    depth: u8,
}

#[derive(Debug)]
struct Datagram {
    number: u64,
    since: Time,
    policy: OverlapPolicy,
    /// From the IP header to the data, of the piece at 0.
    header: Vec<u8>,
    /// Of that piece.
    first: Option<Piece>,
    data: Vec<u8>,
    pieces: Vec<Extent>,
    /// What of the datagram is there, in units: sorted, and none touches another.
    covered: Vec<(u16, u16)>,
    /// Bytes of data, once the last piece is there.
    length: Option<u32>,
}

/// Where a piece lies in the datagram, and in what is kept.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u32,
    end: u32,
    at: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bytes: 32 << 20, timeout: 60, hosts: HostPolicies::default() }
    }
}

impl Datagrams {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            open: HashMap::new(),
            ages: VecDeque::new(),
            held: 0,
            next: 0,
            owners: Vec::new(),
        }
    }

    /// Bytes that they hold.
    pub fn bytes(&self) -> usize {
        self.held + self.owners.capacity() * size_of::<u16>()
    }

    /// Adds a fragment. Returns the datagram, from its IP header on, if it is whole now.
    ///
    /// # Cost
    /// The bytes are copied; a datagram that becomes whole is laid out in the time of all bytes that came for it.
    pub fn add(
        &mut self,
        ip: &Ip<'_>,
        (vlans, depth): ([u16; 3], u8),
        now: Time,
        remarks: &mut Remarks,
        counters: &mut Counters,
    ) -> Option<Vec<u8>> {
        let piece = ip.piece?;
        let is_ipv6 = ip.kind == L3::Ipv6;
        counters.add(if is_ipv6 { Counter::Fragments6 } else { Counter::Fragments4 }, 1);
        let names = Names::of(ip.kind);
        let start = u32::from(piece.offset);
        let end = start + ip.rest_length;
        if ip.rest_length == 0 || ip.rest.len() as u64 != u64::from(ip.rest_length) {
            remarks.add(names.ignored);
            return None;
        }
        if end > DATAGRAM_MAX {
            remarks.add(names.too_large);
            return None;
        }
        if piece.has_more && !ip.rest_length.is_multiple_of(UNIT) {
            if is_ipv6 {
                remarks.add("ipv6.frag_invalid_length");
            }
            remarks.add(names.ignored);
            return None;
        }
        let (AddressBytes(src), AddressBytes(dst)) = (ip.src, ip.dst);
        let protocol = if is_ipv6 { 0 } else { piece.next };
        let key = Key { src, dst, id: piece.id, vlans, protocol, is_ipv6, depth };
        self.expire(now, counters);
        self.make_room(ip.rest.len() + PIECE_COST, &key, counters);
        if !self.open.contains_key(&key) {
            self.begin(key, ip, now);
        }
        let datagram = self.open.get_mut(&key)?;
        let before = datagram.bytes();
        if datagram.data.len() + ip.rest.len() > DATA_MAX || datagram.pieces.len() >= PIECES_MAX {
            remarks.add(names.ignored);
            return None;
        }
        let overlaps = datagram.add(ip, piece, start..end);
        if overlaps {
            counters.add(Counter::FragmentsOverlap, 1);
            remarks.add(names.overlap);
        }
        self.held = (self.held + datagram.bytes()).saturating_sub(before);
        if !datagram.is_whole() {
            return None;
        }
        let datagram = self.open.remove(&key)?;
        self.held = self.held.saturating_sub(datagram.bytes() + DATAGRAM_COST);
        let reassembled = if is_ipv6 { Counter::Reassembled6 } else { Counter::Reassembled4 };
        counters.add(reassembled, 1);
        datagram.laid_out(ip.kind, &mut self.owners)
    }

    fn begin(&mut self, key: Key, ip: &Ip<'_>, now: Time) {
        let host = match ip.kind {
            L3::Ipv6 => std::net::IpAddr::from(ip.dst.v6()),
            _ => std::net::IpAddr::from(ip.dst.v4()),
        };
        let number = self.next;
        self.next += 1;
        let datagram = Datagram {
            number,
            since: now,
            policy: self.settings.hosts.of(host),
            header: Vec::new(),
            first: None,
            data: Vec::new(),
            pieces: Vec::new(),
            covered: Vec::new(),
            length: None,
        };
        self.held += datagram.bytes() + DATAGRAM_COST;
        self.open.insert(key, datagram);
        self.ages.push_back((key, number));
        // Those that became whole are still in the list: it may be twice as long as it has to be.
        if self.ages.len() > 2 * self.open.len() + AGES_MORE {
            let open = &self.open;
            self.ages.retain(|(key, number)| open.get(key).is_some_and(|d| d.number == *number));
        }
    }

    /// Gives up what was waited for too long.
    pub fn expire(&mut self, now: Time, counters: &mut Counters) {
        let timeout = u64::from(self.settings.timeout) * 1_000_000_000;
        while let Some((key, number)) = self.ages.front().copied() {
            match self.open.get(&key) {
                Some(datagram) if datagram.number == number => {
                    if now.since(datagram.since) <= timeout {
                        return;
                    }
                    counters.add(Counter::FragmentsTimeout, 1);
                    self.forget(&key);
                }
                _ => {}
            }
            self.ages.pop_front();
        }
    }

    /// Gives up the oldest until there is room, but not the one that is to have it.
    fn make_room(&mut self, more: usize, but: &Key, counters: &mut Counters) {
        while self.held + more > self.settings.bytes {
            let Some((key, number)) = self.ages.pop_front() else { return };
            let is_open = self.open.get(&key).is_some_and(|datagram| datagram.number == number);
            if is_open && key == *but {
                self.ages.push_front((key, number));
                return;
            }
            if is_open {
                counters.add(Counter::FragmentsShed, 1);
                self.forget(&key);
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(datagram) = self.open.remove(key) {
            self.held = self.held.saturating_sub(datagram.bytes() + DATAGRAM_COST);
        }
    }
}

impl Datagram {
    /// Keeps a piece. Whether it overlaps others.
    fn add(&mut self, ip: &Ip<'_>, piece: Piece, range: std::ops::Range<u32>) -> bool {
        if range.start == 0 && self.first.is_none() {
            self.first = Some(piece);
            let header = ip.network.get(..usize::from(piece.header)).unwrap_or_default();
            self.header = header.to_vec();
        }
        // The first end counts.
        if !piece.has_more && self.length.is_none() {
            self.length = Some(range.end);
        }
        let at = self.data.len() as u32;
        self.data.extend_from_slice(ip.rest);
        self.pieces.push(Extent { start: range.start, end: range.end, at });
        self.cover((range.start / UNIT) as u16, range.end.div_ceil(UNIT) as u16)
    }

    /// Notes that units are there. Whether some were before.
    fn cover(&mut self, start: u16, end: u16) -> bool {
        let from = self.covered.partition_point(|(_, e)| *e < start);
        let to = self.covered.partition_point(|(s, _)| *s <= end);
        let touched = self.covered.get(from..to).unwrap_or_default();
        let overlaps = touched.iter().any(|(s, e)| *s < end && *e > start);
        let first = touched.first().map_or(start, |(s, _)| start.min(*s));
        let last = touched.last().map_or(end, |(_, e)| end.max(*e));
        self.covered.splice(from..to.max(from), [(first, last)]);
        overlaps
    }

    fn is_whole(&self) -> bool {
        let Some(length) = self.length else { return false };
        let units = length.div_ceil(UNIT) as u16;
        self.first.is_some()
            && self.covered.first().is_some_and(|(start, end)| *start == 0 && *end >= units)
    }

    /// The datagram from its IP header on, as one that was never cut.
    fn laid_out(mut self, kind: L3, owners: &mut Vec<u16>) -> Option<Vec<u8>> {
        let length = self.length?;
        let first = self.first?;
        let units = length.div_ceil(UNIT) as usize;
        owners.clear();
        owners.resize(units, NOBODY);
        for (number, extent) in self.pieces.iter().enumerate() {
            let range =
                (extent.start / UNIT) as usize..(extent.end.div_ceil(UNIT) as usize).min(units);
            for owner in owners.get_mut(range).unwrap_or_default() {
                let old = self.pieces.get(usize::from(*owner)).filter(|_| *owner != NOBODY);
                if old.is_none_or(|old| wins(self.policy, old, extent)) {
                    *owner = number as u16;
                }
            }
        }
        let head = self.header.len();
        let mut whole = std::mem::take(&mut self.header);
        whole.resize(head + length as usize, 0);
        let body = whole.get_mut(head..).unwrap_or_default();
        for (unit, (owner, to)) in owners.iter().zip(body.chunks_mut(UNIT as usize)).enumerate() {
            let Some(extent) = self.pieces.get(usize::from(*owner)) else { continue };
            let at = extent.at as usize + unit * UNIT as usize - extent.start as usize;
            let from = self.data.get(at..).unwrap_or_default();
            let left = (extent.end as usize).saturating_sub(unit * UNIT as usize);
            for (to, from) in to.iter_mut().zip(from.iter().take(left)) {
                *to = *from;
            }
        }
        if owners.capacity() > OWNERS_KEPT {
            *owners = Vec::new();
        }
        mend_header(&mut whole, kind, first, length)?;
        Some(whole)
    }

    fn bytes(&self) -> usize {
        self.header.capacity()
            + self.data.capacity()
            + self.pieces.capacity() * size_of::<Extent>()
            + self.covered.capacity() * size_of::<(u16, u16)>()
    }
}

/// Whether a later piece takes what an earlier one has as well.
fn wins(policy: OverlapPolicy, old: &Extent, new: &Extent) -> bool {
    use OverlapPolicy as P;
    match policy {
        P::Last => true,
        P::First | P::Hpux11 | P::Macos => false,
        P::Bsd | P::Hpux10 | P::Irix => new.start < old.start,
        P::Linux | P::OldLinux => new.start <= old.start,
        P::Windows | P::Windows2k3 | P::Vista => new.start < old.start && new.end > old.end,
        P::Solaris => new.start < old.start && new.end >= old.end,
    }
}

/// Makes the first piece's header that of a datagram that was never cut.
fn mend_header(whole: &mut [u8], kind: L3, first: Piece, length: u32) -> Option<()> {
    let header = usize::from(first.header);
    let mut set = |at: usize, bytes: &[u8]| {
        for (to, from) in whole.get_mut(at..)?.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(())
    };
    if kind == L3::Ipv6 {
        let payload = u16::try_from(header.checked_sub(40)? as u32 + length).ok()?;
        set(4, &payload.to_be_bytes())?;
        set(usize::from(first.next_at), &[first.next])
    } else {
        let total = u16::try_from(header as u32 + length).ok()?;
        set(2, &total.to_be_bytes())?;
        set(6, &[0, 0])?;
        set(10, &[0, 0])?;
        let sum = nfv_core::packet::checksum::Sum::of(whole.get(..header)?).checksum();
        for (to, from) in whole.get_mut(10..12)?.iter_mut().zip(sum.to_be_bytes()) {
            *to = from;
        }
        Some(())
    }
}

/// The remarks of a version of IP.
struct Names {
    overlap: &'static str,
    too_large: &'static str,
    ignored: &'static str,
}

impl Names {
    fn of(kind: L3) -> Self {
        if kind == L3::Ipv6 {
            Self {
                overlap: "ipv6.frag_overlap",
                too_large: "ipv6.frag_pkt_too_large",
                ignored: "ipv6.frag_ignored",
            }
        } else {
            Self {
                overlap: "ipv4.frag_overlap",
                too_large: "ipv4.frag_pkt_too_large",
                ignored: "ipv4.frag_ignored",
            }
        }
    }
}

/// What offsets count.
const UNIT: u32 = 8;
/// Bytes of data of the largest datagram.
const DATAGRAM_MAX: u32 = 65_535;
/// Bytes that are kept for one datagram.
const DATA_MAX: usize = 2 * DATAGRAM_MAX as usize;
/// Pieces of one datagram: as many as are cut of the largest one for the smallest link, and some.
const PIECES_MAX: usize = 2048;
/// No piece has it.
const NOBODY: u16 = u16::MAX;
/// What a datagram costs besides its bytes: its places in the map and the list.
const DATAGRAM_COST: usize = 2 * (size_of::<Key>() + size_of::<u64>()) + size_of::<Datagram>();
/// What a piece costs besides its bytes.
const PIECE_COST: usize = 4 * size_of::<Extent>();
/// Places of a short list that are of nobody.
const AGES_MORE: usize = 64;
/// Units whose owners are kept room for.
const OWNERS_KEPT: usize = 16 << 10;
