//! Packets that others carry.

use super::*;
use crate::ids::eve::PacketSource;

/// An IP packet of this protocol between two routers.
fn carried_by_ip(protocol: u8, inner: &[u8]) -> Vec<u8> {
    let number = etherparse::IpNumber(protocol);
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    let mut frame = Vec::new();
    builder.write(&mut frame, number, inner).expect("a frame");
    frame
}

fn carried_by_udp(port: u16, header: &[u8], inner: &[u8]) -> Vec<u8> {
    let payload: Vec<u8> = header.iter().chain(inner).copied().collect();
    udp(([192, 0, 2, 1], 55_555), ([192, 0, 2, 2], port), &payload)
}

/// The dns record's source, and the flows that were told: source addresses and packets.
fn run(frame: &[u8]) -> (Option<PacketSource>, Vec<(String, u64)>) {
    let mut site = Site::new(|_| ());
    let _ = site.sees(frame);
    let told = site.ends();
    let source = told.of(Kind::Dns).first().map(|record| record.head.source);
    let flows = told.of(Kind::Flow);
    let mut flows: Vec<(String, u64)> = flows
        .iter()
        .zip(told.flows())
        .map(|(record, flow)| {
            let src = record.head.src.map(|src| src.to_string()).unwrap_or_default();
            (src, flow.summary.counts.packets[0])
        })
        .collect();
    flows.sort();
    (source, flows)
}

#[test]
fn each_tunnel_shows_what_it_carries_and_is_a_flow_itself_but_gre() {
    let inner = query();
    let ip = &inner[14..];
    let ip6 = udp6(5000, 53, QUERY);
    let cases = [
        (carried_by_ip(4, ip), PacketSource::Ipv4),
        (carried_by_ip(41, &ip6[14..]), PacketSource::Ipv4),
        (carried_by_ip(47, &[&[0, 0, 8, 0], ip].concat()), PacketSource::Gre),
        (
            carried_by_ip(
                47,
                &[&[0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &inner[..]].concat(),
            ),
            PacketSource::Gre,
        ),
        (
            carried_by_ip(
                47,
                &[
                    &[0x30, 0x81, 0x88, 0x0b, 0, 9, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xff, 3, 0, 0x21],
                    ip,
                ]
                .concat(),
            ),
            PacketSource::Gre,
        ),
        (carried_by_udp(4789, &[8, 0, 0, 0, 0, 0, 7, 0], &inner), PacketSource::Vxlan),
        (
            carried_by_udp(6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 0, 0, 0, 0], &inner),
            PacketSource::Geneve,
        ),
        (carried_by_udp(3544, &[], &ip6[14..]), PacketSource::Teredo),
        (carried_by_udp(3544, &[0, 0, 1, 2, 3, 4, 5, 6], &ip6[14..]), PacketSource::Teredo),
    ];
    for (frame, source) in cases {
        let (found, flows) = run(&frame);
        assert_eq!(found, Some(source), "{source:?}");
        // GRE has no flows.
        let outer = if source == PacketSource::Gre { None } else { Some("192.0.2.1") };
        let inner =
            if frame.windows(2).any(|two| two == [0xfd, 0]) { "fd00::1" } else { "10.0.0.1" };
        let mut wanted: Vec<(String, u64)> =
            outer.into_iter().chain([inner]).map(|src| (src.to_string(), 1)).collect();
        wanted.sort();
        assert_eq!(flows, wanted);
    }
}

#[test]
fn wrappers_make_no_packet_of_their_own() {
    let inner = query();
    let ip = &inner[14..];
    let with = |ether_type: u16, wrapper: &[u8]| {
        [&inner[..12], &ether_type.to_be_bytes(), wrapper, ip].concat()
    };
    let size = (ip.len() as u16 + 2).to_be_bytes();
    let cases = [
        with(0x8100, &[0, 7, 8, 0]),
        with(0x88a8, &[0, 7, 0x81, 0, 0, 8, 8, 0]),
        with(0x8847, &[0, 1, 0, 64, 0, 2, 1, 64]),
        with(0x8864, &[0x11, 0, 0, 1, size[0], size[1], 0, 0x21]),
        with(0x894f, &[0, 2, 2, 1, 0, 0, 1, 0xff]),
    ];
    for frame in cases {
        let (source, flows) = run(&frame);
        assert_eq!(source, Some(PacketSource::Wire), "{frame:x?}");
        assert_eq!(flows, [("10.0.0.1".to_string(), 1)]);
    }
}

#[test]
fn tags_tell_flows_apart_unless_they_are_not_to() {
    let tagged = |tag: u8, inner: u8| {
        let frame = query();
        [&frame[..12], &[0x88, 0xa8, 0, tag, 0x81, 0, 0, inner, 8, 0], &frame[14..]].concat()
    };
    for (vlans, flows) in [(Vlans::Apart, 3), (Vlans::Together, 1)] {
        let mut site = Site::new(|settings| settings.vlans = vlans);
        for frame in [tagged(1, 1), tagged(1, 2), tagged(2, 1), tagged(1, 1)] {
            let _ = site.sees(&frame);
        }
        assert_eq!(site.inspector.flows(), flows);
        let told = site.ends();
        let first = [Some(1), Some(1), None];
        assert!(told.of(Kind::Flow).iter().any(|record| record.head.vlan == first));
    }
}

#[test]
fn tunnels_in_tunnels_are_looked_into_as_deep_as_is_bounded() {
    let mut packet = query()[14..].to_vec();
    for depth in 1..200u16 {
        let frame = carried_by_ip(4, &packet);
        packet = frame[14..].to_vec();
        let mut site = Site::new(|_| ());
        let _ = site.sees(&frame);
        let flows = site.inspector.flows();
        assert_eq!(flows, (u32::from(depth) + 1).min(9).min(flows.max(2)), "{depth}");
        assert!(flows <= 9);
    }
}

#[test]
fn mirrored_frames_and_those_behind_tags_are_looked_into() {
    let inner = query();
    let mirrored =
        [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0], &inner[..]].concat();
    assert_eq!(run(&carried_by_ip(47, &mirrored)).0, Some(PacketSource::Gre));
    // The control arm: of another version.
    let mut other = mirrored.clone();
    other[8] = 0x20;
    assert_eq!(run(&carried_by_ip(47, &other)).0, None);
    for (kind, size) in [(0x8926_u16, 4), (0x893f, 6), (0x88e7, 16)] {
        let mut tagged = inner[..12].to_vec();
        tagged.extend_from_slice(&kind.to_be_bytes());
        tagged.extend_from_slice(&vec![1; size]);
        tagged.extend_from_slice(&inner[12..]);
        assert_eq!(run(&tagged).0, Some(PacketSource::Wire), "{kind:x}");
        // One byte more is another tag.
        tagged.insert(16, 0);
        assert_eq!(run(&tagged).0, None, "{kind:x}");
    }
}

#[test]
fn a_tunnel_in_fragments_is_looked_into() {
    let inner = query();
    let frame = carried_by_ip(47, &[&[0, 0, 8, 0], &inner[14..]].concat());
    let data = &frame[34..];
    let mut site = Site::new(|_| ());
    for (start, end, more) in [(0, 24, 1u16), (24, data.len(), 0)] {
        let mut part = frame[..34].to_vec();
        part[16..18].copy_from_slice(&(20 + (end - start) as u16).to_be_bytes());
        part[20..22].copy_from_slice(&(more << 13 | (start / 8) as u16).to_be_bytes());
        fragments::sum_header(&mut part);
        part.extend_from_slice(&data[start..end]);
        let _ = site.sees(&part);
    }
    assert_eq!(site.told.kinds(), ["dns"]);
    assert_eq!(site.told.0[0].head.source, PacketSource::Gre);
}
