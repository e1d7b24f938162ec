//! Connections as tables: who sends what, and where that leads.

mod cost;

use proptest::prelude::*;

use super::segment::{ACK, FIN, RST, SYN};
use super::*;
use crate::packet::TcpFlags;
use Strictness::{Loose, Strict};
use Way::{Original as O, Reply as R};

/// Where the sides' numbers begin: the first near the end of all numbers, so that it wraps in each test.
const C: u32 = u32::MAX - 100;
const S: u32 = 5_000;

/// A segment of `seq` and `ack` from the beginnings: the SYN is 0, the first byte of data 1.
fn seg(way: Way, flags: u8, seq: u32, ack: u32, payload: u32) -> Segment {
    let (mine, other) = if way == O { (C, S) } else { (S, C) };
    let ack = if flags & ACK == 0 { 0 } else { other.wrapping_add(ack) };
    Segment {
        flags: TcpFlags(flags),
        seq: mine.wrapping_add(seq),
        ack,
        sack: ack,
        window: 1_000,
        payload,
        ..Segment::default()
    }
}

type Step = (Way, u8, u32, u32, u32);

/// A track after these segments, all of which are right.
fn after(steps: &[Step]) -> TcpTrack {
    let mut track = TcpTrack::default();
    for (way, flags, seq, ack, payload) in steps.iter().copied() {
        let segment = seg(way, flags, seq, ack, payload);
        let changed = track.next(way, &segment, Strict);
        assert!(changed.is_ok(), "{changed:?} {way:?} {segment:?} {track:?}");
    }
    track
}

fn answer(track: &TcpTrack, step: Step) -> Result<Change, Invalid> {
    answer_to(track, step.0, &seg(step.0, step.1, step.2, step.3, step.4))
}

/// What the track says of a segment; one that is invalid has left it as it was.
fn answer_to(track: &TcpTrack, way: Way, segment: &Segment) -> Result<Change, Invalid> {
    let mut copy = *track;
    let answer = copy.next(way, segment, Strict);
    if answer.is_err() || answer == Ok(Change::Reopened) {
        assert_eq!(copy, *track, "{answer:?} {segment:?}");
    }
    answer
}

const SA: u8 = SYN | ACK;
const FA: u8 = FIN | ACK;
const RA: u8 = RST | ACK;

const OPEN: [Step; 3] = [(O, SYN, 0, 0, 0), (R, SA, 0, 1, 0), (O, ACK, 1, 1, 0)];

fn open() -> TcpTrack {
    after(&OPEN)
}

#[test]
fn each_way_through_a_connection_leads_from_state_to_state() {
    use TcpState::*;
    // Story, then its segments; the state after each.
    let stories: [(&str, &[(Step, TcpState)]); 16] = [
        (
            "a handshake, data both ways, and the opener closes",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SA, 0, 1, 0), SynReceived),
                ((O, ACK, 1, 1, 0), Established),
                ((O, ACK, 1, 1, 300), Established),
                ((R, ACK, 1, 301, 500), Established),
                ((O, FA, 301, 501, 0), FinWait),
                ((R, ACK, 501, 302, 0), CloseWait),
                ((R, ACK, 501, 302, 100), CloseWait),
                ((O, ACK, 302, 601, 0), CloseWait),
                ((R, FA, 601, 302, 0), LastAck),
                ((O, ACK, 302, 602, 0), TimeWait),
                ((R, FA, 601, 302, 0), TimeWait),
                ((O, ACK, 302, 602, 0), TimeWait),
            ],
        ),
        (
            "the other side closes, with its last data, and the opener at once too",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((R, FA, 1, 1, 10), FinWait),
                ((O, FA, 1, 12, 0), LastAck),
                ((R, ACK, 12, 2, 0), TimeWait),
            ],
        ),
        (
            "both close at once",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((O, FA, 1, 1, 0), FinWait),
                ((R, FA, 1, 1, 0), LastAck),
                ((O, ACK, 2, 2, 0), LastAck),
                ((R, ACK, 2, 2, 0), TimeWait),
            ],
        ),
        (
            "a FIN that is sent again, and data of its sender's past, are not the other side's",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((O, ACK, 1, 1, 100), Established),
                ((O, FA, 101, 1, 0), FinWait),
                ((O, FA, 101, 1, 0), FinWait),
                ((O, FA, 1, 1, 100), FinWait),
                ((O, ACK, 1, 1, 100), FinWait),
                ((R, ACK, 1, 101, 0), FinWait),
                ((R, ACK, 1, 102, 0), CloseWait),
            ],
        ),
        (
            "a FIN that overtakes data",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((O, FA, 101, 1, 0), FinWait),
                ((O, ACK, 1, 1, 100), FinWait),
                ((R, ACK, 1, 102, 0), CloseWait),
            ],
        ),
        (
            "SYN and SYN-ACK are sent again",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SA, 0, 1, 0), SynReceived),
                ((O, SYN, 0, 0, 0), SynReceived),
                ((R, SA, 0, 1, 0), SynReceived),
                ((O, ACK, 1, 1, 0), Established),
                ((R, SA, 0, 1, 0), Established),
                ((O, ACK, 1, 1, 0), Established),
            ],
        ),
        (
            "the opener gives up and tries with later numbers",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((O, SYN, 9_000, 0, 0), SynSent),
                ((R, SA, 0, 9_001, 0), SynReceived),
                ((O, ACK, 9_001, 1, 0), Established),
            ],
        ),
        (
            "both open at once",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SYN, 0, 0, 0), SynSent2),
                ((O, SYN, 0, 0, 0), SynSent2),
                ((R, SYN, 0, 0, 0), SynSent2),
                ((O, SA, 0, 1, 0), SynReceived),
                ((O, SA, 0, 1, 0), SynReceived),
                ((R, SYN, 0, 0, 0), SynReceived),
                ((R, SA, 0, 1, 0), Established),
                ((R, ACK, 1, 1, 50), Established),
            ],
        ),
        (
            "both open at once, and the opener's answer comes second",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SYN, 0, 0, 0), SynSent2),
                ((R, SA, 0, 1, 0), SynReceived),
                ((R, ACK, 1, 1, 0), SynReceived),
                ((O, SA, 0, 1, 0), Established),
            ],
        ),
        (
            "both open at once, and one hears of it by the other's answer alone",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SYN, 0, 0, 0), SynSent2),
                ((O, SA, 0, 1, 0), SynReceived),
                ((R, ACK, 1, 1, 0), Established),
            ],
        ),
        (
            "data with the SYN, of which only the SYN is taken (RFC 7413)",
            &[
                ((O, SYN, 0, 0, 200), SynSent),
                ((R, SA, 0, 1, 0), SynReceived),
                ((R, ACK, 1, 1, 600), SynReceived),
                ((R, ACK, 601, 1, 300), SynReceived),
                ((O, ACK, 1, 1, 200), Established),
            ],
        ),
        (
            "a SYN is refused",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, RA, 77, 1, 0), Closed),
                ((R, RA, 0, 1, 0), Closed),
            ],
        ),
        ("the opener gives up", &[((O, SYN, 0, 0, 0), SynSent), ((O, RST, 1, 0, 0), Closed)]),
        (
            "a past connection of the other side is reset, and the SYN comes once more",
            &[
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, ACK, 1_234, 40_000, 0), SynSent),
                ((O, RST, 40_000, 0, 0), SynSent),
                ((O, SYN, 0, 0, 0), SynSent),
                ((R, SA, 0, 1, 0), SynReceived),
                ((O, ACK, 1, 1, 0), Established),
            ],
        ),
        (
            "the opener has forgotten, asks, is told, and resets",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((O, SYN, 777_777, 0, 0), Established),
                ((R, ACK, 1, 1, 0), Established),
                ((O, RST, 1, 0, 0), Closed),
            ],
        ),
        (
            "a reset behind data, and what was under way",
            &[
                (OPEN[0], SynSent),
                (OPEN[1], SynReceived),
                (OPEN[2], Established),
                ((O, ACK, 1, 1, 100), Established),
                ((O, RA, 101, 1, 0), Closed),
                ((R, ACK, 1, 101, 50), Closed),
            ],
        ),
    ];
    for (story, steps) in stories {
        let mut track = TcpTrack::default();
        for (i, ((way, flags, seq, ack, payload), state)) in steps.iter().copied().enumerate() {
            let before = track.state();
            let changed = track.next(way, &seg(way, flags, seq, ack, payload), Strict);
            assert_eq!(track.state(), Some(state), "{story}: step {i} {changed:?}");
            let expected = match before {
                Some(before) if before == state => Change::Same,
                Some(before) if before.is_over() => Change::State(state),
                _ if state.is_over() => Change::Over(state),
                _ => Change::State(state),
            };
            assert_eq!(changed, Ok(expected), "{story}: step {i}");
        }
    }
}

#[test]
fn each_invalid_segment_has_its_name_and_changes_nothing() {
    use Invalid::*;
    let new = TcpTrack::default();
    let syn = after(&OPEN[..1]);
    let received = after(&OPEN[..2]);
    let crossed = after(&[(O, SYN, 0, 0, 0), (R, SYN, 0, 0, 0)]);
    let data = after(&[OPEN[0], OPEN[1], OPEN[2], (O, ACK, 1, 1, 900), (R, ACK, 1, 901, 900)]);
    let fin = after(&[OPEN[0], OPEN[1], OPEN[2], (O, ACK, 1, 1, 100), (O, FA, 101, 1, 0)]);
    let time_wait =
        after(&[OPEN[0], OPEN[1], OPEN[2], (O, FA, 1, 1, 0), (R, FA, 1, 2, 0), (O, ACK, 2, 2, 0)]);
    let refused = after(&[(O, SYN, 0, 0, 0), (R, RA, 0, 1, 0)]);
    let (below, far) = (0u32.wrapping_sub(2_000), 1 << 30);
    let cases: [(&str, TcpTrack, Step, Invalid); 45] = [
        ("no flag", open(), (O, 0, 1, 1, 0), BadFlags),
        ("SYN and FIN", new, (O, SYN | FIN, 0, 0, 0), BadFlags),
        ("FIN without ACK", open(), (O, FIN, 1, 1, 0), BadFlags),
        ("SYN and RST", open(), (O, SYN | RST, 1, 1, 0), BadFlags),
        ("ACK first", new, (O, ACK, 1, 1, 0), NotASyn),
        ("SYN-ACK first", new, (O, SA, 0, 1, 0), NotASyn),
        ("RST first", new, (O, RST, 0, 1, 0), NotASyn),
        ("FIN first", new, (O, FA, 1, 1, 0), NotASyn),
        ("an earlier SYN", syn, (O, SYN, below, 0, 0), UnexpectedSyn),
        ("the opener answers itself", syn, (O, SA, 0, 1, 0), UnexpectedSyn),
        ("a third SYN", crossed, (R, SYN, 9, 0, 0), UnexpectedSyn),
        ("an answer with another number", crossed, (O, SA, 9, 1, 0), UnexpectedSyn),
        ("an earlier answer", received, (R, SA, below, 1, 0), UnexpectedSyn),
        ("SYN of the server", open(), (R, SYN, 1, 0, 0), UnexpectedSyn),
        ("SYN of the server at the end", time_wait, (R, SYN, 10_000, 0, 0), UnexpectedSyn),
        ("data before an answer", syn, (O, ACK, 1, 1, 10), NotOpenYet),
        ("data in an answer without SYN", syn, (R, ACK, 1, 1, 10), NotOpenYet),
        ("FIN before an answer", syn, (R, FA, 1, 1, 0), NotOpenYet),
        ("ACK while SYNs cross", crossed, (O, ACK, 1, 1, 0), NotOpenYet),
        ("answer after a refusal", refused, (R, SA, 0, 1, 0), NotOpenYet),
        ("data beyond the window", open(), (O, ACK, 1_002, 1, 10), SeqAboveWindow),
        ("an ACK beyond it", open(), (O, ACK, 1_003, 1, 0), SeqAboveWindow),
        ("a FIN beyond it", open(), (R, FA, 1_003, 1, 0), SeqAboveWindow),
        ("data from before it", data, (O, ACK, below, 901, 10), SeqBelowWindow),
        ("an ACK from before it", data, (R, ACK, below, 901, 0), SeqBelowWindow),
        ("an old SYN-ACK", data, (R, SA, below, 901, 0), SeqBelowWindow),
        ("an answer to another SYN", syn, (R, SA, 0, 2, 0), AckOfUnsent),
        ("an answer to none", syn, (R, SA, 0, 0, 0), AckTooOld),
        ("an ACK of no answer", received, (O, ACK, 1, 0, 0), AckTooOld),
        ("an ACK of more", received, (O, ACK, 1, 2, 0), AckOfUnsent),
        ("an ACK of data to come", data, (O, ACK, 901, 902, 0), AckOfUnsent),
        ("an ACK of long ago", data, (O, ACK, 901, far, 0), AckOfUnsent),
        ("an ACK of longer ago", data, (O, ACK, 901, 0u32.wrapping_sub(66_000), 0), AckTooOld),
        ("a refusal of another SYN", syn, (R, RA, 0, 2, 0), BadReset),
        ("a refusal of no SYN", syn, (R, RST, 0, 0, 0), BadReset),
        ("a reset just before", data, (O, RST, 900, 0, 0), BadReset),
        ("a reset in the window that acknowledges too much", data, (O, RA, 950, 902, 0), BadReset),
        ("a reset behind", data, (R, RST, 0u32.wrapping_sub(500), 0, 0), BadReset),
        ("a reset beyond", data, (R, RST, far, 0, 0), BadReset),
        ("a reset in the handshake", received, (R, RA, 0, 1, 0), BadReset),
        ("data behind the FIN", fin, (O, ACK, 102, 1, 10), BadFin),
        ("another FIN behind it", fin, (O, FA, 102, 1, 0), BadFin),
        ("another FIN before it", fin, (O, FA, 50, 1, 0), BadFin),
        ("a FIN before data", data, (O, FA, 500, 901, 0), BadFin),
        ("a FIN in the midst of data", data, (R, FA, 1, 901, 10), BadFin),
    ];
    let mut named = [false; Invalid::NAMES.len()];
    for (what, track, step, why) in cases {
        assert_eq!(answer(&track, step), Err(why), "{what}");
        named[why.index()] = true;
    }
    assert!(named.iter().all(|n| *n), "each has a case: {named:?}");
}

#[test]
fn a_loose_flow_starts_in_the_middle_and_a_strict_one_does_not() {
    let data = seg(O, ACK, 5_000, 9_000, 100);
    assert_eq!(TcpTrack::start(&data, Strict), Err(Invalid::NotASyn));
    for flags in [SA, FA, RST, RA] {
        let segment = seg(O, flags, 5_000, 9_000, 0);
        assert_eq!(TcpTrack::start(&segment, Loose), Err(Invalid::NotASyn), "{flags:#x}");
    }
    let mut track = TcpTrack::start(&data, Loose).unwrap();
    assert_eq!(track.state(), Some(TcpState::Established));
    // Both have sent more than that one segment tells, under windows of unknown scale.
    for (way, flags, seq, ack, payload) in [
        (R, ACK, 30_000, 5_000, 1_400),
        (R, ACK, 31_400, 7_000, 1_400),
        (O, ACK, 3_000, 32_800, 1_400),
        (O, ACK, 1_000_000, 32_800, 1_400),
        (R, ACK, 32_800, 1_001_400, 0),
    ] {
        let segment = seg(way, flags, seq, ack, payload);
        assert_eq!(track.next(way, &segment, Loose), Ok(Change::Same), "{segment:?} {track:?}");
    }
    let mut ahead = TcpTrack::start(&data, Loose).unwrap();
    assert_eq!(ahead.next(O, &seg(O, ACK, 5_100, 40_000, 0), Loose), Ok(Change::Same));
    let fin = (R, FA, 20_000, 5_100, 0);
    assert_eq!(answer(&ahead, fin), Err(Invalid::BadFin), "later data are acknowledged");
    let by_reply = Segment { ack: data.ack.wrapping_add(100), ..seg(R, ACK, 9_000, 0, 10) };
    let mut other = TcpTrack::default();
    let started = other.next(R, &by_reply, Loose);
    assert_eq!(started, Ok(Change::State(TcpState::Established)));
    assert_eq!(other.next(R, &by_reply, Loose), Ok(Change::Same), "each side has its own numbers");
    let syn = TcpTrack::default().next(R, &seg(R, SYN, 0, 0, 0), Loose);
    assert_eq!(syn, Err(Invalid::NotASyn), "an opener is Original by name");
    let far = seg(R, ACK, 1 << 31, 1_001_400, 10);
    assert_eq!(answer_to(&track, R, &far), Err(Invalid::SeqAboveWindow));
    assert_eq!(answer(&track, (R, RST, 32_799, 0, 0)), Err(Invalid::BadReset), "it is known now");
    let closed = Ok(Change::Over(TcpState::Closed));
    assert_eq!(answer(&track, (R, RST, 32_800, 0, 0)), closed);
}

#[test]
fn a_reset_of_a_flow_of_which_one_side_is_unknown_must_be_in_its_window() {
    let track = TcpTrack::start(&seg(O, ACK, 5_000, 9_000, 100), Loose).unwrap();
    let closed = Ok(Change::Over(TcpState::Closed));
    assert_eq!(answer(&track, (R, RST, 9_500, 0, 0)), closed);
    assert_eq!(answer(&track, (R, RST, 1 << 31, 0, 0)), Err(Invalid::BadReset));
}

#[test]
fn a_reset_in_the_window_ends_a_connection_that_opens_or_closes_and_leaves_one_that_stands() {
    let closed = Ok(Change::Over(TcpState::Closed));
    let received = after(&OPEN[..2]);
    assert_eq!(answer(&received, (R, RST, 500, 0, 0)), closed);
    assert_eq!(answer(&received, (R, RST, 5_000, 0, 0)), Err(Invalid::BadReset));
    assert_eq!(answer(&open(), (R, RST, 500, 0, 0)), Ok(Change::Same));
    // The question, and the answer to it at the right number.
    let asked = after(&[OPEN[0], OPEN[1], OPEN[2], (R, RST, 500, 0, 0), (O, ACK, 1, 1, 0)]);
    assert_eq!(asked, open());
    assert_eq!(answer(&asked, (R, RST, 1, 0, 0)), closed);
    let fin = after(&[OPEN[0], OPEN[1], OPEN[2], (O, FA, 1, 1, 0)]);
    assert_eq!(answer(&fin, (R, RST, 500, 0, 0)), closed);
    assert_eq!(
        answer(&fin, (R, RST, 5_000, 0, 0)),
        Ok(Change::Same),
        "it passes, and ends nothing"
    );
}

#[test]
fn a_syn_reopens_what_is_over() {
    let over = after(&[OPEN[0], OPEN[1], OPEN[2], (O, RST, 1, 0, 0)]);
    assert_eq!(answer(&over, (O, SYN, 70_000, 0, 0)), Ok(Change::Reopened));
    let closed =
        after(&[OPEN[0], OPEN[1], OPEN[2], (R, FA, 1, 1, 0), (O, FA, 1, 2, 0), (R, ACK, 2, 2, 0)]);
    assert_eq!(answer(&closed, (O, SYN, 70_000, 0, 0)), Ok(Change::Reopened));
    assert_eq!(answer(&open(), (O, SYN, 70_000, 0, 0)), Ok(Change::Same));
    let mut picked_up = TcpTrack::start(&seg(R, ACK, 1, 1, 10), Loose).unwrap();
    assert!(picked_up.next(R, &seg(O, ACK, 1, 11, 0), Loose).is_ok());
    assert!(picked_up.next(O, &seg(R, RST, 11, 0, 0), Loose).is_ok());
    let syn = seg(O, SYN, 90_000, 0, 0);
    let reopened = picked_up.next(R, &syn, Loose);
    assert_eq!(reopened, Ok(Change::Reopened), "who opened it is not known");
}

/// Opened with these scales, and a window of 1,000 in the first ACK.
fn scaled(original: Option<u8>, reply: Option<u8>) -> TcpTrack {
    let mut track = TcpTrack::default();
    for (way, flags, seq, ack, scale) in
        [(O, SYN, 0, 0, original), (R, SA, 0, 1, reply), (O, ACK, 1, 1, None)]
    {
        let segment = Segment { scale, ..seg(way, flags, seq, ack, 0) };
        assert!(track.next(way, &segment, Strict).is_ok());
    }
    track
}

#[test]
fn windows_are_scaled_if_both_syns_had_a_scale() {
    let edge = |track: TcpTrack, scale: u32| {
        let inside = answer(&track, (R, ACK, 1 + (1_000 << scale), 1, 10));
        let outside = answer(&track, (R, ACK, 2 + (1_000 << scale), 1, 10));
        assert_eq!((inside, outside), (Ok(Change::Same), Err(Invalid::SeqAboveWindow)), "{scale}");
    };
    edge(scaled(Some(7), Some(3)), 7);
    edge(scaled(Some(14), Some(0)), 14);
    edge(scaled(Some(7), None), 0);
    edge(scaled(None, Some(7)), 0);
    let syn_only = answer(&scaled(Some(7), Some(7)), (O, ACK, 1_002, 1, 10));
    assert_eq!(syn_only, Err(Invalid::SeqAboveWindow), "a SYN's own window is not scaled");
}

#[test]
fn options_of_a_syn_that_is_sent_again_count_too() {
    let plain = seg(O, SYN, 0, 0, 0);
    let full = Segment { scale: Some(7), sack_permitted: true, ..plain };
    let answer = Segment { scale: Some(7), sack_permitted: true, ..seg(R, SA, 0, 1, 0) };
    let through = |syns: &[Segment]| {
        let mut track = TcpTrack::default();
        for syn in syns {
            assert!(track.next(O, syn, Strict).is_ok());
        }
        assert!(track.next(R, &answer, Strict).is_ok());
        track
    };
    assert_eq!(through(&[plain, full]), through(&[full]));
    assert_eq!(through(&[full, plain]), through(&[full]));
    assert_ne!(through(&[plain]), through(&[full]));
}

#[test]
fn of_two_answers_the_one_with_the_later_number_counts() {
    let first = Segment { scale: Some(2), sack_permitted: true, ..seg(R, SA, 0, 1, 0) };
    let second = Segment { scale: Some(7), ..seg(R, SA, 9_000, 1, 0) };
    let through = |answers: &[Segment]| {
        let syn = Segment { scale: Some(7), sack_permitted: true, ..seg(O, SYN, 0, 0, 0) };
        let mut track = TcpTrack::start(&syn, Strict).unwrap();
        for answer in answers {
            assert!(track.next(R, answer, Strict).is_ok());
        }
        assert!(track.next(O, &seg(O, ACK, 1, 9_001, 0), Strict).is_ok());
        track
    };
    assert_eq!(through(&[first, second]), through(&[second]));
}

#[test]
fn a_sack_block_of_what_was_not_sent_is_none_if_sack_was_agreed() {
    for permitted in [false, true] {
        let mut track = TcpTrack::default();
        for (way, flags, seq, ack, payload) in [OPEN[0], OPEN[1], OPEN[2], (R, ACK, 1, 1, 500)] {
            let sack_permitted = permitted && flags & SYN != 0;
            let segment = Segment { sack_permitted, ..seg(way, flags, seq, ack, payload) };
            assert!(track.next(way, &segment, Strict).is_ok());
        }
        let up_to = |edge: u32| {
            let sack = S.wrapping_add(edge);
            answer_to(&track, O, &Segment { sack, ..seg(O, ACK, 1, 1, 0) })
        };
        assert_eq!(up_to(501), Ok(Change::Same));
        let beyond = if permitted { Err(Invalid::AckOfUnsent) } else { Ok(Change::Same) };
        assert_eq!(up_to(502), beyond, "{permitted}");
    }
}

#[test]
fn keepalives_and_probes_of_a_closed_window_are_right() {
    let track = after(&[OPEN[0], OPEN[1], OPEN[2], (O, ACK, 1, 1, 1_000)]);
    let mut full = track;
    let no_window = Segment { window: 0, ..seg(R, ACK, 1, 1_001, 0) };
    assert_eq!(full.next(R, &no_window, Strict), Ok(Change::Same));
    for (what, step) in [
        ("keepalive", (O, ACK, 1_000, 1, 0)),
        ("probe before the window", (O, ACK, 0, 1, 0)),
        ("keepalive with a byte", (O, ACK, 1_000, 1, 1)),
        ("probe", (O, ACK, 1_001, 1, 1)),
        ("probe that was taken", (R, ACK, 0, 1_001, 0)),
    ] {
        assert_eq!(answer(&full, step), Ok(Change::Same), "{what}");
    }
    assert_eq!(answer(&full, (O, ACK, 1_003, 1, 1)), Err(Invalid::SeqAboveWindow));
    let behind_lost_fin = answer(&open(), (O, ACK, 1_002, 1, 0));
    assert_eq!(behind_lost_fin, Ok(Change::Same), "a FIN at the window's end needs no room");
    let before = full.window(R);
    assert!(full.next(O, &seg(O, ACK, 1_001, 1, 1), Strict).is_ok());
    assert_eq!(full.window(R), before, "a probe does not overrun a window");
}

#[test]
fn a_segment_that_begins_in_the_window_and_ends_behind_it_may_be_sent_again() {
    let mut track = after(&[OPEN[0], OPEN[1], OPEN[2], (O, ACK, 1, 1, 900), (O, ACK, 901, 1, 900)]);
    assert_eq!(answer(&track, (O, ACK, 1, 1, 500)), Ok(Change::Same));
    assert_eq!(answer(&track, (O, ACK, 1_801, 1, 0)), Ok(Change::Same), "an ACK behind it");
    assert_eq!(answer(&track, (O, ACK, 1_801, 1, 900)), Err(Invalid::SeqAboveWindow));
    let before = track.window(R);
    for _ in 0..100 {
        assert!(track.next(O, &seg(O, ACK, 901, 1, 900), Strict).is_ok());
    }
    assert_eq!(track.window(R), before, "sending it again opens no window");
}

#[test]
fn idle_times_are_linux_defaults() {
    let all = (1..=9).filter_map(TcpState::of).map(|s| (s.name(), idle_seconds(s)));
    let expected = [
        ("syn_sent", 120),
        ("syn_received", 60),
        ("established", 432_000),
        ("fin_wait", 120),
        ("close_wait", 60),
        ("last_ack", 30),
        ("time_wait", 120),
        ("closed", 10),
        ("syn_sent2", 120),
    ];
    assert!(all.eq(expected));
    assert_eq!(TcpTrack::default().state(), None);
}

fn any_segment() -> impl Strategy<Value = (Way, Segment)> {
    let near = prop_oneof![any::<u32>(), (0u32..3_000).prop_map(|n| n.wrapping_sub(1_000))];
    let payload = prop_oneof![Just(0u32), 0u32..2_000, any::<u32>()];
    let flags =
        prop_oneof![any::<u8>(), Just(SYN), Just(SA), Just(ACK), Just(FA), Just(RST), Just(RA)];
    let more = (any::<u16>(), any::<Option<u8>>(), any::<bool>(), any::<u32>(), any::<bool>());
    (any::<bool>(), flags, near.clone(), near, payload, more).prop_map(
        |(reply, flags, seq, ack, payload, (window, scale, sack_permitted, sack, plain))| {
            let way = if reply { R } else { O };
            let s = seg(way, flags, seq, ack, payload);
            let sack = if plain { s.ack } else { sack };
            (way, Segment { window, scale, sack_permitted, sack, ..s })
        },
    )
}

proptest! {
    #[test]
    fn any_segments_are_taken_or_refused_without_a_panic(
        bytes: [u8; 32], from_bytes: bool, loose: bool,
        segments in prop::collection::vec(any_segment(), 0..40),
    ) {
        let strictness = if loose { Loose } else { Strict };
        let mut track = if from_bytes { zerocopy::transmute!(bytes) } else { TcpTrack::default() };
        for (way, segment) in segments {
            let before = track;
            let state = track.state();
            match track.next(way, &segment, strictness) {
                Err(_) | Ok(Change::Reopened) => prop_assert_eq!(track, before),
                Ok(Change::Same) => prop_assert_eq!(track.state(), state),
                Ok(Change::State(now) | Change::Over(now)) => {
                    prop_assert_eq!(track.state(), Some(now));
                    prop_assert_ne!(state, Some(now));
                }
            }
        }
    }

    #[test]
    fn a_reset_ends_a_connection_at_one_of_two_numbers_only(
        seq in prop_oneof![any::<u32>(), 0u32..3_000], ack: u32, flags in prop_oneof![Just(RST), Just(RA)],
    ) {
        let track = after(&[OPEN[0], OPEN[1], OPEN[2], (O, ACK, 1, 1, 900), (R, ACK, 1, 401, 0)]);
        prop_assume!(seq != 401 && seq != 901);
        let in_window = (402..=1_402).contains(&seq);
        let mut copy = track;
        let said = copy.next(O, &seg(O, flags, seq, ack, 0), Strict);
        prop_assert_eq!(copy, track, "it goes on as it was");
        if flags == RST {
            // Its receiver asks back, and is told the right number.
            prop_assert_eq!(said, if in_window { Ok(Change::Same) } else { Err(Invalid::BadReset) });
        } else {
            prop_assert!(said == Err(Invalid::BadReset) || in_window && said == Ok(Change::Same));
        }
    }

    #[test]
    fn data_outside_the_window_changes_nothing(seq in 2_001u32..u32::MAX - 4_000, ack: u32, fin: bool, payload in 0u32..1_400) {
        let flags = if fin { FA } else { ACK };
        prop_assert!(answer(&open(), (O, flags, seq, ack, payload)).is_err());
        prop_assert!(answer(&open(), (R, flags, seq, ack, payload)).is_err());
    }
}
