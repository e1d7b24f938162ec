//! Fragments in each order and of each kind; a packet is a number.

mod random;
mod read;

use std::collections::BTreeSet;

use super::*;

type Pens = Fragments<char, u32>;

const SECRET: Secret = Secret([0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);
const SECOND: u64 = 1_000_000_000;

fn key(id: u32) -> FragmentKey {
    let mut key = FragmentKey { id, protocol: protocol::UDP, vlan: 0xffff, ..Default::default() };
    key.src[..4].copy_from_slice(&[10, 0, 0, 1]);
    key.dst[..4].copy_from_slice(&[192, 0, 2, 7]);
    key
}

fn ipv6(id: u32) -> FragmentKey {
    FragmentKey { family: Family::Ipv6, src: [0x20; 16], dst: [0x21; 16], ..key(id) }
}

fn more(offset: u32, length: u32) -> Extent {
    Extent { offset, length, last: false }
}

fn last(offset: u32, length: u32) -> Extent {
    Extent { offset, length, last: true }
}

/// What becomes of packets, and all that came out.
struct Rig {
    pens: Pens,
    /// In order: a packet and its context, or why it was dropped.
    out: Vec<(u32, Result<char, Refused>)>,
    now: u64,
    key: FragmentKey,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        Self { pens: Fragments::new(limits, SECRET), out: Vec::new(), now: 5, key: key(1) }
    }

    fn first(&mut self, extent: Extent) -> Result<(), Refused> {
        let out = &mut self.out;
        let answer = self
            .pens
            .first(&self.key, extent, 8, 'c', self.now, &mut |p, fate| out.push((p, fate)));
        self.pens.table.assert_sound();
        answer
    }

    fn later(&mut self, extent: Extent, packet: u32) -> Later<char, u32> {
        let out = &mut self.out;
        let dropped = &mut |p, why| out.push((p, Err(why)));
        let answer = self.pens.later(&self.key, extent, packet, 100, self.now, dropped);
        self.pens.table.assert_sound();
        answer
    }

    fn expire(&mut self, now: u64) {
        let out = &mut self.out;
        self.now = now;
        self.pens.expire(now, &mut |p, why| out.push((p, Err(why))));
        self.pens.table.assert_sound();
    }

    fn out(&mut self) -> Vec<(u32, Result<char, Refused>)> {
        std::mem::take(&mut self.out)
    }

    /// Datagrams, packets, bytes.
    fn holds(&self) -> (usize, usize, usize) {
        (self.pens.datagrams(), self.pens.held_packets(), self.pens.held_bytes())
    }
}

#[test]
fn in_order_the_later_ones_follow_the_first_and_the_last_frees_the_datagram() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.first(more(0, 1480)), Ok(()));
    assert_eq!(rig.later(more(1480, 1480), 1), Later::Follows(1, 'c'));
    assert_eq!(rig.holds(), (1, 0, 0));
    assert_eq!(rig.later(last(2960, 37), 2), Later::Follows(2, 'c'));
    assert_eq!(rig.holds(), (0, 0, 0));
    assert_eq!(rig.out(), []);
}

#[test]
fn those_that_overtook_the_first_wait_and_come_out_in_order_of_arrival() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(last(2960, 37), 1), Later::Held);
    assert_eq!(rig.later(more(1480, 1480), 2), Later::Held);
    assert_eq!(rig.holds(), (1, 2, 200));
    assert_eq!(rig.first(more(0, 1480)), Ok(()));
    assert_eq!(rig.out(), [(1, Ok('c')), (2, Ok('c'))]);
    assert_eq!(rig.holds(), (0, 0, 0));
}

#[test]
fn a_hole_keeps_the_datagram_known() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(last(2960, 37), 1), Later::Held);
    assert_eq!(rig.first(more(0, 1480)), Ok(()));
    assert_eq!((rig.out(), rig.holds()), (vec![(1, Ok('c'))], (1, 0, 0)));
    assert_eq!(rig.later(more(1480, 1480), 2), Later::Follows(2, 'c'));
    assert_eq!(rig.holds(), (0, 0, 0));
}

#[test]
fn a_duplicate_is_refused_and_the_datagram_comes_out_whole_all_the_same() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(last(16, 5), 1), Later::Held);
    assert_eq!(rig.later(last(16, 5), 2), Later::Refused(2, Refused::Duplicate));
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    assert_eq!(rig.first(more(0, 8)), Err(Refused::Duplicate));
    assert_eq!(rig.later(last(16, 5), 3), Later::Refused(3, Refused::Duplicate));
    assert_eq!(rig.later(more(8, 8), 4), Later::Follows(4, 'c'));
    assert_eq!((rig.out(), rig.holds()), (vec![(1, Ok('c'))], (0, 0, 0)));
}

#[test]
fn an_overlap_poisons_the_datagram_and_drops_what_it_held() {
    for start in [1480, 2960 - 8, 0] {
        let mut rig = Rig::new(Limits::default());
        assert_eq!(rig.later(more(1488, 1472), 1), Later::Held);
        let why = if start == 0 {
            rig.first(more(0, 1496)).unwrap_err()
        } else {
            let Later::Refused(2, why) = rig.later(more(start, 1480), 2) else { panic!() };
            why
        };
        assert_eq!(why, Refused::Overlap);
        assert_eq!((rig.out(), rig.holds()), (vec![(1, Err(Refused::Poisoned))], (1, 0, 0)));
        assert_eq!(rig.first(more(0, 1480)), Err(Refused::Poisoned));
        assert_eq!(rig.later(last(2960, 9), 3), Later::Refused(3, Refused::Poisoned));
        // Another datagram is not touched.
        rig.key = key(2);
        assert_eq!(rig.first(more(0, 1480)), Ok(()));
        rig.key = key(1);
        rig.expire(5 + 30 * SECOND);
        assert_eq!(rig.holds(), (0, 0, 0));
        assert_eq!(rig.first(more(0, 1480)), Ok(()));
    }
}

#[test]
fn an_overlap_behind_the_first_stops_what_has_not_passed_yet() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.first(more(0, 1480)), Ok(()));
    assert_eq!(rig.later(more(1472, 1480), 1), Later::Refused(1, Refused::Overlap));
    assert_eq!(rig.later(more(1480, 1480), 2), Later::Refused(2, Refused::Poisoned));
}

#[test]
fn a_header_in_pieces_goes_nowhere() {
    let mut rig = Rig::new(Limits::default());
    rig.key.protocol = protocol::TCP;
    assert_eq!(rig.later(more(8, 1480), 1), Later::Refused(1, Refused::TinyFragment));
    assert_eq!(rig.later(more(16, 1480), 2), Later::Refused(2, Refused::TinyFragment));
    assert_eq!(rig.holds(), (0, 0, 0));
    assert_eq!(rig.later(more(24, 1480), 3), Later::Held);
    let minimum = header_minimum(protocol::TCP);
    let out = &mut rig.out;
    let cut = rig.pens.first(&rig.key, more(0, 16), minimum, 'c', 5, &mut |p, f| out.push((p, f)));
    assert_eq!(cut, Err(Refused::TinyFragment));
    assert_eq!(rig.out(), [(3, Err(Refused::Poisoned))]);
    assert_eq!(rig.later(more(24, 1480), 4), Later::Refused(4, Refused::Poisoned));
    // UDP's header is in the first eight bytes.
    rig.key = key(2);
    assert_eq!(rig.later(more(8, 1480), 5), Later::Held);
}

#[test]
fn a_datagram_longer_than_its_length_field_goes_nowhere() {
    for (key, most) in [(key(1), 65_515), (ipv6(1), 65_535)] {
        let mut rig = Rig::new(Limits::default());
        rig.key = key;
        let offset = 65_528 - 64;
        assert_eq!(rig.later(last(65_528, 100), 1), Later::Refused(1, Refused::TooLong));
        let beyond = last(offset, most - offset + 1);
        assert_eq!(rig.later(beyond, 2), Later::Refused(2, Refused::TooLong));
        assert_eq!(rig.later(last(u32::MAX, 9), 3), Later::Refused(3, Refused::TooLong));
        assert_eq!(rig.later(last(8, u32::MAX), 4), Later::Refused(4, Refused::TooLong));
        assert_eq!(rig.holds(), (0, 0, 0));
        assert_eq!(rig.later(last(offset, most - offset), 5), Later::Held);
    }
}

#[test]
fn a_fragment_that_is_not_the_last_is_a_multiple_of_eight_and_none_is_empty() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(more(8, 12), 1), Later::Refused(1, Refused::BadLength));
    assert_eq!(rig.later(more(8, 0), 2), Later::Refused(2, Refused::BadLength));
    assert_eq!(rig.later(last(8, 0), 3), Later::Refused(3, Refused::BadLength));
    assert_eq!(rig.later(last(0, 8), 4), Later::Refused(4, Refused::BadPlace));
    assert_eq!(rig.first(more(8, 8)), Err(Refused::BadPlace));
    assert_eq!(rig.holds(), (0, 0, 0));
    assert_eq!(rig.first(more(0, 12)), Err(Refused::BadLength));
    assert_eq!(rig.later(last(16, 8), 5), Later::Refused(5, Refused::Poisoned));
}

#[test]
fn a_datagram_has_one_end() {
    let offences = [
        // Another end, before and behind; beyond the end; up to it, with more to follow.
        (last(80, 8), last(160, 8)),
        (last(80, 8), last(40, 8)),
        (last(80, 8), more(88, 8)),
        (last(80, 8), more(72, 16)),
        (last(80, 8), more(80, 8)),
        // An end where more was to follow.
        (more(80, 8), last(80, 8)),
        (more(80, 8), last(40, 8)),
    ];
    for (one, other) in offences {
        let mut rig = Rig::new(Limits::default());
        assert_eq!(rig.later(one, 1), Later::Held);
        assert_eq!(rig.later(other, 2), Later::Refused(2, Refused::TwoEnds), "{one:?} {other:?}");
        assert_eq!(rig.out(), [(1, Err(Refused::Poisoned))]);
        assert_eq!(rig.first(more(0, 8)), Err(Refused::Poisoned));
    }
}

#[test]
fn what_waits_is_let_go_after_a_second_and_a_first_after_thirty() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(more(8, 8), 1), Later::Held);
    rig.now += SECOND / 2;
    assert_eq!(rig.later(more(16, 8), 2), Later::Held);
    rig.key = key(2);
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    rig.expire(4 + SECOND);
    assert_eq!((rig.out(), rig.holds()), (vec![], (2, 2, 200)));
    rig.expire(5 + SECOND);
    let late = Err(Refused::TooLate);
    assert_eq!((rig.out(), rig.holds()), (vec![(1, late), (2, late)], (1, 0, 0)));
    rig.expire(4 + SECOND / 2 + 30 * SECOND);
    assert_eq!(rig.holds(), (1, 0, 0));
    rig.expire(5 + SECOND / 2 + 30 * SECOND);
    assert_eq!(rig.holds(), (0, 0, 0));
}

#[test]
fn a_datagram_whose_time_is_up_is_gone_before_anybody_expires_it() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(last(8, 8), 1), Later::Held);
    rig.now += SECOND;
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    assert_eq!((rig.out(), rig.holds()), (vec![(1, Err(Refused::TooLate))], (1, 0, 0)));
    rig.now += 30 * SECOND;
    assert_eq!(rig.later(last(8, 8), 2), Later::Held);
    // A clock that goes back does no harm.
    rig.expire(0);
    assert_eq!(rig.holds(), (1, 1, 100));
}

#[test]
fn a_first_fragment_starts_the_datagrams_time_anew() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.later(last(16, 8), 1), Later::Held);
    rig.now += SECOND - 1;
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    rig.expire(29 * SECOND);
    assert_eq!(rig.later(more(8, 8), 2), Later::Follows(2, 'c'));
}

#[test]
fn one_call_lets_go_a_bounded_number() {
    let mut rig = Rig::new(Limits { held_packets: 200, ..Limits::default() });
    for id in 0..100 {
        rig.key = key(id);
        assert_eq!(rig.later(more(8, 8), id), Later::Held);
    }
    rig.expire(2 * SECOND);
    assert_eq!((rig.out().len(), rig.holds()), (32, (68, 68, 6800)));
    for _ in 0..3 {
        rig.expire(2 * SECOND);
    }
    assert_eq!((rig.out().len(), rig.holds()), (68, (0, 0, 0)));
}

#[test]
fn what_has_no_room_to_wait_is_refused_and_may_come_again() {
    let small = Limits::default();
    for limits in [
        Limits { held_packets: 2, ..small },
        Limits { held_bytes: 299, ..small },
        Limits { held_of_one: 2, ..small },
    ] {
        let mut rig = Rig::new(limits);
        assert_eq!(rig.later(more(8, 8), 1), Later::Held);
        assert_eq!(rig.later(more(16, 8), 2), Later::Held);
        assert_eq!(rig.later(last(24, 8), 3), Later::Refused(3, Refused::NoRoom));
        assert_eq!(rig.holds(), (1, 2, 200));
        rig.key = key(2);
        let other = rig.later(more(8, 8), 4);
        if limits.held_of_one == 2 {
            assert_eq!(other, Later::Held);
        } else {
            assert_eq!(other, Later::Refused(4, Refused::NoRoom));
            assert_eq!(rig.holds(), (1, 2, 200));
        }
        rig.key = key(1);
        assert_eq!(rig.first(more(0, 8)), Ok(()));
        assert_eq!(rig.out(), [(1, Ok('c')), (2, Ok('c'))]);
        assert_eq!(rig.later(last(24, 8), 5), Later::Follows(5, 'c'));
    }
}

#[test]
fn the_oldest_datagram_makes_room_for_a_new_one() {
    let mut rig = Rig::new(Limits { datagrams: 2, ..Limits::default() });
    for id in 1..=2 {
        rig.key = key(id);
        rig.now += 1;
        assert_eq!(rig.later(more(8, 8), id), Later::Held);
    }
    rig.key = key(3);
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    assert_eq!((rig.out(), rig.holds()), (vec![(1, Err(Refused::TooMany))], (2, 1, 100)));
    // A settled one goes before one that waits, when it is the older.
    rig.key = key(2);
    rig.now += 1;
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    rig.key = key(4);
    rig.now += 1;
    assert_eq!(rig.later(more(8, 8), 4), Later::Held);
    rig.key = key(5);
    assert_eq!(rig.later(more(8, 8), 5), Later::Held);
    assert_eq!((rig.out(), rig.holds()), (vec![(2, Ok('c'))], (2, 2, 200)));
}

#[test]
fn a_chain_that_is_too_long_loses_a_member() {
    let mut rig = Rig::new(Limits { datagrams: 64, ..Limits::default() });
    let bucket = rig.pens.table.bucket(&key(0));
    let same: Vec<u32> =
        (0..).filter(|&id| rig.pens.table.bucket(&key(id)) == bucket).take(17).collect();
    for &id in &same {
        rig.key = key(id);
        assert_eq!(rig.later(more(8, 8), id), Later::Held);
    }
    assert_eq!((rig.out(), rig.holds()), (vec![(same[0], Err(Refused::TooMany))], (16, 16, 1600)));
    rig.key = key(same[16]);
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    assert_eq!(rig.out(), [(same[16], Ok('c'))]);
}

#[test]
fn no_limit_may_be_so_small_that_it_panics() {
    let none = Limits {
        datagrams: 0,
        held_packets: 0,
        held_bytes: 0,
        held_of_one: 0,
        hold_ns: 0,
        known_ns: 0,
    };
    let mut rig = Rig::new(none);
    assert_eq!(rig.later(more(8, 8), 1), Later::Refused(1, Refused::NoRoom));
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    assert_eq!(rig.first(more(0, 8)), Ok(()), "the other one's time is up at once");
    assert_eq!(rig.holds(), (1, 0, 0));
}

#[test]
fn pieces_with_too_many_holes_between_them_are_refused() {
    let mut rig = Rig::new(Limits::default());
    for i in 1..=16 {
        assert_eq!(rig.later(more(16 * i, 8), i), Later::Held);
    }
    assert_eq!(rig.later(more(16 * 17, 8), 17), Later::Refused(17, Refused::TooScattered));
    // What closes a hole is welcome.
    assert_eq!(rig.later(more(24, 8), 18), Later::Held);
    assert_eq!(rig.later(more(16 * 17, 8), 19), Later::Held);
    assert_eq!(rig.first(more(0, 16)), Ok(()));
    assert_eq!(rig.out().len(), 18);
}

#[test]
fn fragments_with_another_key_are_of_another_datagram() {
    let base = key(1);
    let others = [
        FragmentKey { id: 2, ..base },
        FragmentKey { vlan: 5, ..base },
        FragmentKey { place: 5, ..base },
        FragmentKey { protocol: protocol::TCP, ..base },
        FragmentKey { src: base.dst, dst: base.src, ..base },
        FragmentKey { family: Family::Ipv6, ..base },
    ];
    for other in others {
        let mut rig = Rig::new(Limits::default());
        assert_eq!(rig.first(more(0, 64)), Ok(()));
        rig.key = other;
        assert_eq!(rig.later(more(64, 64), 1), Later::Held, "{other:?}");
    }
}

#[test]
fn the_protocol_does_not_tell_datagrams_of_ipv6_apart() {
    let mut rig = Rig::new(Limits::default());
    rig.key = ipv6(1);
    assert_eq!(rig.first(more(0, 64)), Ok(()));
    rig.key.protocol = protocol::DESTINATION_OPTIONS;
    assert_eq!(rig.later(last(64, 9), 1), Later::Follows(1, 'c'));
}

#[test]
fn all_that_is_held_comes_out_when_the_run_ends() {
    let mut rig = Rig::new(Limits::default());
    for id in 1..=40 {
        rig.key = key(id);
        assert_eq!(rig.later(more(8, 8), id), Later::Held);
    }
    rig.key = key(41);
    assert_eq!(rig.first(more(0, 8)), Ok(()));
    let out = &mut rig.out;
    rig.pens.drain(&mut |p, why| out.push((p, Err(why))));
    assert_eq!(rig.holds(), (0, 0, 0));
    assert!(rig.out().iter().map(|o| o.0).eq(1..=40));
}

#[test]
fn each_reason_has_its_own_name_and_place() {
    let names: BTreeSet<_> = Refused::NAMES.iter().map(|n| n.name).collect();
    assert_eq!(names.len(), Refused::NAMES.len());
    assert_eq!(Refused::Overlap.name(), "fragment_overlap");
    assert_eq!(Refused::Stopped.index(), Refused::NAMES.len() - 1);
    assert_eq!(Refused::TooLate.name(), "fragment_too_late");
}
