//! Datagrams in fragments.

use proptest::prelude::*;

use super::*;
use crate::ids::eve::PacketSource;
use crate::ids::stream::{HostPolicies, OverlapPolicy};

/// A part of a datagram, `frame`, from `start` on: offsets count from behind the IP header.
pub fn fragment(frame: &[u8], start: usize, end: usize, bytes: Option<&[u8]>) -> Vec<u8> {
    let data = &frame[34..];
    let mut part = frame[..34].to_vec();
    let end = end.min(data.len());
    let more = u16::from(end < data.len());
    let bytes = bytes.unwrap_or(&data[start..end]);
    part[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
    part[20..22].copy_from_slice(&(more << 13 | (start / 8) as u16).to_be_bytes());
    sum_header(&mut part);
    part.extend_from_slice(bytes);
    part
}

/// Makes the IPv4 header's checksum right.
pub fn sum_header(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = nfv_core::packet::checksum::Sum::of(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// A part of an IPv6 datagram behind a fragment header.
fn fragment6(frame: &[u8], start: usize, end: usize) -> Vec<u8> {
    let data = &frame[54..];
    let end = end.min(data.len());
    let more = u16::from(end < data.len());
    let mut part = frame[..54].to_vec();
    part[18..20].copy_from_slice(&(8 + (end - start) as u16).to_be_bytes());
    part[20] = 44;
    part.extend_from_slice(&[frame[20], 0]);
    part.extend_from_slice(&((start as u16) | more).to_be_bytes());
    part.extend_from_slice(&[0, 0, 0, 9]);
    part.extend_from_slice(&data[start..end]);
    part
}

#[test]
fn a_query_in_fragments_is_told_as_one_that_was_whole() {
    let mut site = Site::new(|_| ());
    for (start, end) in [(0, 16), (32, 99), (16, 32)] {
        assert_eq!(site.sees(&fragment(&query(), start, end, None)).answer, Answer::Pass);
    }
    assert_eq!(site.told.kinds(), ["dns"]);
    assert_eq!(site.told.0[0].head.source, PacketSource::Defrag);
    assert_eq!(site.told.0[0].head.pcap_cnt, Some(3));
    let told = site.ends();
    assert_eq!(told.flows()[0].summary.counts.packets, [1, 0]);
    assert_eq!(told.flows()[0].summary.counts.bytes, [(query().len() - 14) as u64, 0]);
}

#[test]
fn fragments_of_ipv6_are_put_together_as_well() {
    let mut site = Site::new(|_| ());
    let whole = udp6(5000, 53, QUERY);
    for (start, end) in [(24, 99), (8, 24), (0, 8)] {
        let _ = site.sees(&fragment6(&whole, start, end));
    }
    assert_eq!(site.told.kinds(), ["dns"]);
    assert_eq!(site.told.0[0].head.dport, Some(53));
}

#[test]
fn a_segment_in_fragments_is_a_part_of_its_stream() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let frame = talk.frame(Client, "ap", REQUEST);
    for (start, end) in [(40, 999), (0, 24), (24, 40)] {
        let _ = site.sees(&fragment(&frame, start, end, None));
    }
    talk.sent(Client, REQUEST.len());
    let _ = talk.says(&mut site, Server, ANSWER);
    assert_eq!(site.told.kinds(), ["http"]);
}

#[test]
fn a_datagram_that_is_not_whole_in_time_is_given_up() {
    let mut site = Site::new(|_| ());
    let _ = site.sees(&fragment(&query(), 0, 16, None));
    assert!(site.inspector.datagrams.bytes() > 0);
    site.now.0 += 61_000_000_000;
    let _ = site.sees(&fragment(&query(), 16, 99, None));
    assert!(site.told.0.is_empty());
    assert_eq!(site.inspector.counters().get(Counter::FragmentsTimeout), 1);
}

/// What a receiver of this policy reads where fragments of `A`s, `B`s, `C`s ... overlap. In units of 8 bytes: first piece
/// `A` at 0..3, `B` at 4..6, `C` at 6..9, `D` at 1..5, `E` at 6..8, `F` at 9..12: the lines of the paper's figure.
fn laid_out(policy: OverlapPolicy) -> String {
    let mut site = Site::new(|settings| {
        settings.datagrams.hosts = HostPolicies::new(Vec::new(), policy);
    });
    let whole = udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), &[b'.'; 96 - 8]);
    let mut remarks = decode::Remarks::default();
    let mut read = None;
    let parts = [(0, 3, 'A'), (4, 6, 'B'), (6, 9, 'C'), (1, 5, 'D'), (6, 8, 'E'), (9, 12, 'F')];
    for (start, end, letter) in parts {
        let bytes = vec![letter as u8; (end - start) * 8];
        let frame = fragment(&whole, start * 8, end * 8, Some(&bytes));
        let decoded = decode::Decoded::of(
            decode::Start::Ethernet,
            &frame,
            frame.len() as u32,
            &Tunnels::default(),
        );
        let ip = decoded.ip.expect("a packet");
        let (tags, now) = ((decoded.vlans, 0), site.now);
        let inspector = &mut site.inspector;
        let counters = &mut inspector.counters;
        read = inspector.datagrams.add(&ip, tags, now, &mut remarks, counters);
    }
    assert_eq!(remarks.names(), ["ipv4.frag_overlap"]);
    let read = read.expect("a whole datagram");
    assert_eq!(read.len(), 20 + 96);
    read[20..].chunks(8).map(|unit| char::from(unit[0])).collect()
}

#[test]
fn overlaps_are_read_as_their_receiver_does() {
    use OverlapPolicy::*;
    assert_eq!(laid_out(First), "AAADBBCCCFFF");
    assert_eq!(laid_out(Last), "ADDDDBEECFFF");
    // Later ones that begin before what is there take it.
    assert_eq!(laid_out(Bsd), "AAADDBCCCFFF");
    // And those that begin where it does.
    assert_eq!(laid_out(Linux), "AAADDBEECFFF");
    assert_eq!(laid_out(Windows), "AAADBBCCCFFF");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_fragments_makes_the_datagram_that_was_cut(
        cuts in prop::collection::vec(1usize..80, 0..12), keys in prop::collection::vec(any::<u32>(), 13),
        length in 1usize..700,
    ) {
        let payload: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let whole = udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), &payload);
        let most = whole.len() - 34;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut * 8).filter(|at| *at < most).collect();
        ends.push(most);
        ends.sort_unstable();
        ends.dedup();
        let mut start = 0;
        let mut parts = Vec::new();
        for (end, key) in ends.into_iter().zip(keys) {
            parts.push((key, fragment(&whole, start, end, None)));
            start = end;
        }
        let is_cut = parts.len() > 1;
        parts.sort();
        let mut site = Site::new(|_| ());
        for (_, part) in &parts {
            let _ = site.sees(part);
        }
        let reassembled = site.inspector.counters().get(Counter::Reassembled4);
        prop_assert_eq!(reassembled, u64::from(is_cut));
        let told = site.ends();
        prop_assert_eq!(told.flows()[0].summary.counts.packets, [1, 0]);
    }
}

#[test]
fn a_flood_of_fragments_keeps_within_its_bytes() {
    let budget = 256 << 10;
    let mut site = Site::new(|settings| settings.datagrams.bytes = budget);
    let whole = udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), &[7; 3000]);
    for id in 0..20_000u16 {
        let mut part = fragment(&whole, 8 * usize::from(id % 300), 3000, Some(&[1; 64]));
        part[18..20].copy_from_slice(&id.to_be_bytes());
        sum_header(&mut part);
        let _ = site.sees(&part);
        assert!(site.inspector.datagrams.bytes() <= budget + 4096);
    }
    assert!(site.inspector.counters().get(Counter::FragmentsShed) > 10_000);
    // What is whole at once finds room all the same.
    for (start, end) in [(0, 16), (16, 99)] {
        let _ = site.sees(&fragment(&query(), start, end, None));
    }
    assert_eq!(site.told.of(Kind::Dns).len(), 1);
}

#[test]
fn one_datagram_of_pieces_that_are_sent_again_and_again_is_bounded() {
    let mut site = Site::new(|_| ());
    let whole = udp(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), &[7; 3000]);
    for _ in 0..5000 {
        let _ = site.sees(&fragment(&whole, 8, 1400, None));
    }
    assert!(site.inspector.datagrams.bytes() < 300 << 10);
}
