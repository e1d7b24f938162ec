//! Headers as they are on the wire.

use super::{last, more};
use crate::flow::fragment::read;
use crate::packet::protocol;

/// A fragment of an ICMP echo between hosts of 192.0.2.0/24; from its Ethernet header on.
const IPV4: [u8; 42] = [
    0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 28, 0xab, 0xcd, 0x20, 0xb9, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, // IPv4
    1, 2, 3, 4, 5, 6, 7, 8,
];

#[test]
fn the_extent_of_an_ipv4_fragment_is_read() {
    assert_eq!(read(&IPV4, 14, 42), Some((0xabcd, more(0xb9 * 8, 8), 1)));
    let mut end = IPV4;
    end[20] = 0;
    assert_eq!(read(&end, 14, 42), Some((0xabcd, last(0xb9 * 8, 8), 1)));
    // Options count as header.
    end[14] = 0x46;
    assert_eq!(read(&end, 14, 42), Some((0xabcd, last(0xb9 * 8, 4), 1)));
    // More of it is on the wire than at hand.
    assert_eq!(read(&IPV4[..34], 14, 42), Some((0xabcd, more(0xb9 * 8, 8), 1)));
    let mut whole = IPV4;
    whole[20..22].copy_from_slice(&[0x40, 0]);
    assert_eq!(read(&whole, 14, 42), None);
    for (frame, l3, l3_end) in
        [(&IPV4[..33], 14, 42), (&IPV4[..], 14, 33), (&IPV4[..], 42, 14), (&IPV4[..], 99, 99)]
    {
        assert_eq!(read(frame, l3, l3_end), None);
    }
}

fn ipv6_of(chain: &[(u8, usize)], field: u16) -> Vec<u8> {
    let mut frame = vec![0x60, 0, 0, 0, 0, 0, chain[0].0, 64];
    frame.extend([0x20; 32]);
    for (i, &(kind, length)) in chain.iter().enumerate() {
        let next = chain.get(i + 1).map_or(protocol::UDP, |c| c.0);
        let size = if kind == protocol::AH { length / 4 - 2 } else { length / 8 - 1 };
        let mut header = vec![next, size as u8];
        if kind == protocol::FRAGMENT {
            header[1] = 0xff;
            header.extend(field.to_be_bytes());
            header.extend([0xde, 0xad, 0xbe, 0xef]);
        }
        header.resize(length, 0);
        frame.extend(header);
    }
    frame.extend([7; 16]);
    frame
}

#[test]
fn the_extent_of_an_ipv6_fragment_is_read_behind_its_extension_headers() {
    let (hop, ah, cut) = ((protocol::HOP_BY_HOP, 16), (protocol::AH, 12), (protocol::FRAGMENT, 8));
    for chain in [&[cut][..], &[hop, cut], &[hop, ah, cut], &[hop; 7]] {
        let mut chain = chain.to_vec();
        if !chain.contains(&cut) {
            chain.push(cut);
        }
        let frame = ipv6_of(&chain, 1440 | 1);
        let found = Some((0xdead_beef, more(1440, 16), protocol::UDP));
        assert_eq!(read(&frame, 0, frame.len()), found, "{chain:?}");
        // Each frame that ends before the fragment header does.
        for at_hand in 0..frame.len() - 16 {
            assert_eq!(read(&frame[..at_hand], 0, frame.len()), None);
        }
    }
    let eight_before = [hop, hop, hop, hop, hop, hop, hop, hop, cut];
    let frame = ipv6_of(&eight_before, 1440);
    assert_eq!(read(&frame, 0, frame.len()), None, "the ninth");
    let atomic = ipv6_of(&[cut], 0);
    assert_eq!(read(&atomic, 0, atomic.len()), None, "atomic");
    let none = ipv6_of(&[hop], 0);
    assert_eq!(read(&none, 0, none.len()), None, "no fragment header");
}
