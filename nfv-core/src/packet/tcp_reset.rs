//! TCP resets: what the sender of a segment is told when nobody listens, or a firewall says so.
//!
//! The numbers are those of RFC 9293, section 3.5.2: a reset to a segment that acknowledges something stands where the
//! sender expects the next byte, else it stands at 0 and acknowledges all that the segment has. So it is taken by the
//! connection that it answers, and by no other.

use super::tcp_build::{Fields, Segment, SynOptions, Way};
use super::{Headers, TcpFlags};

/// Longest frame that [`tcp_reset`] builds: IPv6 behind Ethernet with two tags.
pub const TCP_RESET_MAX: usize = 22 + 40 + 20;

/// Builds the reset that answers the segment `frame`, whose headers are `headers`, in its destination's name.
///
/// Returns the frame's length in `out`, 60 at least; `None` when nobody is answered: to a reset, to a fragment, to or from
/// a group, or what is not TCP. MACs are those of the frame, exchanged, and its VLAN tags are kept.
/// # Cost
/// 60 bytes written and summed, 30 ns.
pub fn tcp_reset(frame: &[u8], headers: &Headers, out: &mut [u8; TCP_RESET_MAX]) -> Option<usize> {
    let TcpFlags(flags) = headers.tcp_flags;
    let tcp = Fields::read(frame, headers)?;
    if flags & RST != 0 {
        return None;
    }
    let (seq, ack, flags) = if flags & ACK != 0 {
        (tcp.ack, 0, RST)
    } else {
        let data = headers.l3_end.checked_sub(headers.l4)?.checked_sub(tcp.header_length)?;
        let marks = [SYN, FIN].into_iter().filter(|mark| flags & mark != 0).count();
        let length = u32::from(data).wrapping_add(u32::try_from(marks).ok()?);
        (0, tcp.seq.wrapping_add(length), RST | ACK)
    };
    let options = SynOptions::default();
    let reset = Segment { way: Way::Back, seq, ack, flags, window: 0, options };
    reset.build(frame, headers, out)
}

/// Builds the reset that stands in the place of the segment `frame`: its receiver takes it as its sender's.
///
/// As [`tcp_reset`] it returns the frame's length in `out`, 60 at least; `None` for a reset, a fragment, or what is not TCP.
/// Cost: as [`tcp_reset`].
pub fn tcp_reset_onward(
    frame: &[u8],
    headers: &Headers,
    out: &mut [u8; TCP_RESET_MAX],
) -> Option<usize> {
    let TcpFlags(flags) = headers.tcp_flags;
    let tcp = Fields::read(frame, headers)?;
    if flags & RST != 0 {
        return None;
    }
    let options = SynOptions::default();
    let flags = RST | flags & ACK;
    let reset = Segment { way: Way::Onward, seq: tcp.seq, ack: tcp.ack, flags, window: 0, options };
    reset.build(frame, headers, out)
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::checksum::Sum;
    use super::super::{parse, protocol};
    use super::*;
    use proptest::prelude::*;

    /// From 192.0.2.1:4660 to 198.51.100.2:23 in VLAN 100, sequence number 1000, acknowledging 5000.
    fn tcp4(flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 100, 8, 0, 0x45, 0];
        frame.extend(((40 + payload) as u16).to_be_bytes());
        frame.extend([0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2]);
        segment(&mut frame, flags, payload);
        frame
    }

    fn tcp6(flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
        frame.extend(((20 + payload) as u16).to_be_bytes());
        frame.extend([6, 64]);
        frame.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("2001:db8:1::2".parse::<Ipv6Addr>().unwrap().octets());
        segment(&mut frame, flags, payload);
        frame
    }

    fn segment(frame: &mut Vec<u8>, flags: u8, payload: usize) {
        frame.extend([0x12, 0x34, 0, 23, 0, 0, 3, 232, 0, 0, 19, 136, 0x50, flags, 1, 0]);
        frame.extend([0; 4]);
        frame.extend(std::iter::repeat_n(7, payload));
    }

    fn reset(frame: &[u8]) -> Option<Vec<u8>> {
        let headers = parse(frame, frame.len() as u32).ok()?;
        let mut out = [0; TCP_RESET_MAX];
        let length = tcp_reset(frame, &headers, &mut out)?;
        Some(out[..length].to_vec())
    }

    /// Sequence number, what is acknowledged, flags.
    fn numbers(frame: &[u8]) -> (u32, u32, u8) {
        let h = parse(frame, frame.len() as u32).unwrap();
        let tcp = &frame[usize::from(h.l4)..];
        let word = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
        (word(4), word(8), tcp[13])
    }

    fn is_right(frame: &[u8]) -> bool {
        let h = parse(frame, frame.len() as u32).unwrap();
        let tcp = Sum::of(&frame[usize::from(h.l4)..usize::from(h.l3_end)]);
        let (src, dst) = (h.src, h.dst);
        let ends = match h.kind {
            super::super::L3::Ipv4 => {
                (Ipv4Addr::from(src.v4()).into(), Ipv4Addr::from(dst.v4()).into())
            }
            _ => (Ipv6Addr::from(src.v6()).into(), Ipv6Addr::from(dst.v6()).into()),
        };
        tcp.plus(Sum::of_pseudo_header(ends.0, ends.1, protocol::TCP, 20)).is_right()
    }

    #[test]
    fn a_reset_onward_stands_where_the_segment_stood() {
        for frame in [tcp4(ACK | 8, 700), tcp6(ACK, 0)] {
            let headers = parse(&frame, frame.len() as u32).unwrap();
            let mut out = [0; TCP_RESET_MAX];
            let length = tcp_reset_onward(&frame, &headers, &mut out).unwrap();
            assert_eq!(numbers(&out[..length]), (1000, 5000, RST | ACK));
            let reset = parse(&out[..length], length as u32).unwrap();
            assert_eq!((reset.src, reset.dst), (headers.src, headers.dst));
            assert_eq!((reset.sport, reset.dport), (headers.sport, headers.dport));
        }
        let rst = tcp4(RST, 0);
        let headers = parse(&rst, rst.len() as u32).unwrap();
        assert_eq!(tcp_reset_onward(&rst, &headers, &mut [0; TCP_RESET_MAX]), None);
    }

    #[test]
    fn a_syn_is_answered_at_zero_with_all_of_it_acknowledged() {
        for frame in [tcp4(SYN, 0), tcp6(SYN, 0)] {
            let answer = reset(&frame).unwrap();
            assert_eq!(numbers(&answer), (0, 1001, RST | ACK));
            assert!(is_right(&answer) && answer.len() >= 60);
        }
        assert_eq!(numbers(&reset(&tcp4(SYN, 9)).unwrap()).1, 1010, "data in a SYN counts");
        assert_eq!(numbers(&reset(&tcp4(FIN, 9)).unwrap()).1, 1010);
    }

    #[test]
    fn a_segment_that_acknowledges_is_answered_where_its_sender_expects_a_byte() {
        for flags in [ACK, ACK | SYN, ACK | FIN] {
            assert_eq!(numbers(&reset(&tcp4(flags, 9)).unwrap()), (5000, 0, RST));
        }
    }

    #[test]
    fn it_comes_from_the_destination_in_the_same_vlan() {
        let answer = reset(&tcp4(SYN, 0)).unwrap();
        let h = parse(&answer, answer.len() as u32).unwrap();
        assert_eq!((h.src.v4(), h.dst.v4()), ([198, 51, 100, 2], [192, 0, 2, 1]));
        assert_eq!((h.sport, h.dport, h.vlan), (23, 4660, 100));
        assert_eq!(answer[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn who_must_not_be_answered_is_not() {
        assert_eq!(reset(&tcp4(RST, 0)), None, "a reset");
        assert_eq!(reset(&tcp4(RST | ACK, 0)), None, "a reset that acknowledges");
        let change = |at: usize, to: u8| {
            let mut frame = tcp4(SYN, 0);
            frame[at] = to;
            reset(&frame)
        };
        assert!(change(29, 7).is_some(), "control: its checksum is its own affair");
        assert_eq!(change(0, 3), None, "a frame to a group");
        assert_eq!(change(34, 224), None, "to a multicast group");
        assert_eq!(change(24, 0x20), None, "a fragment");
        assert_eq!(change(27, 17), None, "UDP");
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic_and_no_reset_is_answered(
            v6: bool, flags: u8, payload in 0usize..200, at in 0usize..80, value: u8, cut in 0usize..60,
        ) {
            let mut frame = if v6 { tcp6(flags, payload) } else { tcp4(flags, payload) };
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            frame.truncate(frame.len() - cut.min(frame.len()));
            if let Some(built) = reset(&frame) {
                prop_assert!(is_right(&built));
                prop_assert_eq!(reset(&built), None);
            }
        }
    }
}
