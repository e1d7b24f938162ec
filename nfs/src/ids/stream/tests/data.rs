//! Bytes on their way.

use super::*;

#[test]
fn bytes_count_when_they_are_acknowledged_as_far_as_they_are() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"0123456789");
    assert_eq!(talk.heard(Side::Client), b"");
    let _ = talk.server(ACK, 1, 5, b"");
    assert_eq!(talk.heard(Side::Client), b"0123");
    let _ = talk.server(ACK, 1, 11, b"");
    assert_eq!(talk.heard(Side::Client), b"0123456789");
}

#[test]
fn inline_bytes_count_when_they_come_in_order() {
    let mut talk = Talk::open(|s| s.mode = Mode::Inline);
    let _ = talk.client(ACK, 4, 1, b"DEF");
    assert_eq!(talk.heard(Side::Client), b"");
    let _ = talk.client(ACK, 1, 1, b"ABC");
    assert_eq!(talk.heard(Side::Client), b"ABCDEF");
}

#[test]
fn inline_what_passed_first_counts_and_a_packet_that_says_otherwise_is_rewritten() {
    let mut talk = Talk::open(|s| s.mode = Mode::Inline);
    talk.streams.unwatch(talk.id(), Side::Client);
    let _ = talk.client(ACK, 1, 1, b"GOOD");
    let outcome = talk.client(ACK, 3, 1, b"XXEVIL");
    assert!(outcome.must_be_rewritten);
    assert!(outcome.events.has(Event::ReassemblyOverlapDifferentData));
    let mut payload = *b"XXEVIL";
    let seq = talk.isn[0].wrapping_add(3);
    assert_eq!(talk.streams.normalize(talk.id(), Side::Client, seq, &mut payload), 2);
    assert_eq!(&payload, b"ODEVIL");
    assert_eq!(talk.heard(Side::Client), b"GOODEVIL");
    // Sent again as it was: nothing to be done.
    assert!(!talk.client(ACK, 1, 1, b"GOOD").must_be_rewritten);
    // Once the server has it, nothing of it is kept.
    let _ = talk.server(ACK, 1, 9, b"");
    assert_eq!(talk.streams.bytes_in_use(), 0);
}

#[test]
fn the_receivers_policy_decides_and_the_event_tells() {
    for (policy, wanted) in [(OverlapPolicy::Vista, b"GOOD"), (OverlapPolicy::OldLinux, b"EVIL")] {
        // The server's address has the policy, as it receives.
        let net = "10.0.0.2/32".parse().expect("a prefix");
        let hosts = HostPolicies::new(vec![(net, policy)], OverlapPolicy::Bsd);
        let mut talk = Talk::open(|s| s.hosts = hosts);
        let _ = talk.client(ACK, 1, 1, b"GOOD");
        let outcome = talk.client(ACK, 1, 1, b"EVIL");
        assert!(outcome.events.has(Event::ReassemblyOverlapDifferentData));
        assert!(outcome.events.has(Event::PktRetransmission));
        assert!(!outcome.must_be_rewritten);
        let _ = talk.server(ACK, 1, 5, b"");
        assert_eq!(talk.heard(Side::Client), wanted);
        assert_eq!(talk.count(Counter::OverlapDiffData), 1);
    }
}

#[test]
fn bytes_that_were_acknowledged_and_never_seen_are_a_gap() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"abc");
    let _ = talk.client(ACK, 104, 1, b"xyz");
    let outcome = talk.server(ACK, 1, 107, b"");
    assert_eq!(names(outcome.events), ["reassembly_seq_gap"]);
    assert_eq!(talk.heard(Side::Client), b"abcxyz");
    assert_eq!(talk.heard.gaps, [(Side::Client, 3, 100)]);
    // What comes too late is not told.
    let late = talk.client(ACK, 4, 1, &[7; 100]);
    assert!(late.events.has(Event::PktSpuriousRetransmission));
    assert!(late.events.has(Event::EstPktBeforeLastAck));
    assert_eq!(talk.heard(Side::Client), b"abcxyz");
    // So is what is acknowledged before it was seen, once something follows.
    let _ = talk.server(ACK, 1, 207, b"");
    assert_eq!(talk.heard.gaps.len(), 1);
    let _ = talk.client(ACK, 207, 1, b"!");
    assert_eq!(talk.heard.gaps.last(), Some(&(Side::Client, 106, 100)));
    assert_eq!(talk.count(Counter::AckUnseenData), 1);
    assert_eq!(talk.count(Counter::GapBytes), 200);
}

#[test]
fn bytes_that_come_after_their_acknowledgement_count() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.server(ACK, 1, 6, b"");
    let _ = talk.client(ACK, 1, 1, b"GET /");
    assert_eq!(talk.heard(Side::Client), b"GET /");
    assert!(talk.end().gaps.is_empty());
}

#[test]
fn a_side_that_is_never_seen_is_given_up_in_time() {
    let mut talk = Talk::new(|s| s.depth = 0);
    talk.scale = Some(14);
    talk.shake_hands();
    let _ = talk.server(ACK, 1, 1, b"");
    for i in 1..300u32 {
        let outcome = talk.server(ACK, 1, i.wrapping_mul(16 << 20), b"");
        assert_eq!(outcome.verdict, Verdict::Taken);
    }
    let told = talk.streams.view(talk.id()).expect("it").told;
    assert_eq!(told[0], 299 * (16 << 20) - 1);
}

#[test]
fn segments_out_of_the_window_or_with_a_wrong_ack_add_nothing() {
    let mut talk = Talk::open(|_| {});
    let outcome = talk.client(ACK, 1 + 8192, 1, b"x");
    assert_eq!(
        (names(outcome.events), outcome.verdict),
        (vec!["est_packet_out_of_window"], Verdict::Refused)
    );
    let outcome = talk.client(ACK, 1, 1 + 8193, b"x");
    assert_eq!(names(outcome.events), ["est_invalid_ack", "pkt_invalid_ack"]);
    let outcome = talk.client(FIN | ACK, 9000, 1, b"");
    assert_eq!(names(outcome.events), ["fin_out_of_window"]);
    let outcome = talk.client(FIN | ACK, 1, 90_000, b"");
    assert_eq!(names(outcome.events), ["fin_invalid_ack", "pkt_invalid_ack"]);
    // Without ACK no receiver takes it.
    assert_eq!(talk.client(0, 1, 0, b"x").verdict, Verdict::Refused);
    let outcome = talk.client(ACK, 1, 1, b"right");
    assert!(outcome.events.is_empty());
    let _ = talk.server(ACK, 1, 6, b"");
    assert_eq!(talk.heard(Side::Client), b"right");
    assert_eq!(talk.count(Counter::InvalidPackets), 5);
}

#[test]
fn windows_are_scaled_only_if_both_syns_say_so() {
    let mut talk = Talk::new(|_| {});
    (talk.scale, talk.window) = (Some(4), 1000);
    talk.shake_hands();
    // The SYN-ACK's window is not scaled; the ACKs' are.
    let _ = talk.server(ACK, 1, 1, b"");
    assert!(talk.client(ACK, 15_900, 1, b"x").events.is_empty());
    assert!(!talk.client(ACK, 16_100, 1, b"x").events.is_empty());
}

#[test]
fn a_closed_window_is_probed_with_a_byte() {
    let mut talk = Talk::open(|_| {});
    talk.window = 0;
    let _ = talk.client(ACK, 1, 1, b"abc");
    let _ = talk.server(ACK, 1, 4, b"");
    // The window is where it was: it does not shrink. So far.
    talk.window = 8192;
    let _ = talk.client(ACK, 4, 1, &[1; 8189]);
    talk.window = 0;
    let _ = talk.server(ACK, 1, 8193, b"");
    assert_eq!(talk.client(ACK, 8193, 1, b"p").verdict, Verdict::Taken);
    assert_eq!(talk.client(ACK, 8194, 1, b"q").verdict, Verdict::Refused);
    // A FIN needs no room.
    let mut talk = Talk::open(|_| {});
    let outcome = talk.client(FIN | ACK, 1, 1, &[1; 8192]);
    assert_eq!((outcome.verdict, outcome.state), (Verdict::Taken, TcpState::CloseWait));
}

#[test]
fn a_keepalive_adds_nothing() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"abc");
    let _ = talk.server(ACK, 1, 4, b"");
    let outcome = talk.client(ACK, 3, 1, b"?");
    assert_eq!(outcome.verdict, Verdict::NoPayload);
    assert!(outcome.events.is_empty());
    let _ = talk.server(ACK, 1, 4, b"");
    // The same of a byte that is not acknowledged is that byte again.
    let _ = talk.client(ACK, 4, 1, b"d");
    let outcome = talk.client(ACK, 4, 1, b"d");
    assert_eq!(
        (outcome.verdict, names(outcome.events)),
        (Verdict::Taken, vec!["pkt_retransmission"])
    );
    assert_eq!(talk.end().bytes[0], b"abcd");
}

#[test]
fn an_acknowledgement_of_long_ago_makes_a_segment_that_no_receiver_takes() {
    let mut talk = Talk::new(|_| {});
    talk.scale = Some(10);
    talk.shake_hands();
    let _ = talk.server(ACK, 1, 1, b"");
    for i in 1..8 {
        let _ = talk.server(ACK, 1, i << 21, b"");
    }
    assert_eq!(talk.server(ACK, 1, 6 << 21, b"a").verdict, Verdict::Taken);
    let outcome = talk.server(ACK, 2, 1, b"b");
    assert_eq!(names(outcome.events), ["est_invalid_ack", "pkt_invalid_ack"]);
}

#[test]
fn a_clock_that_goes_back_is_not_believed() {
    let mut talk = Talk::new(|_| {});
    talk.stamp = Some(1000);
    talk.shake_hands();
    talk.stamp = Some(1010);
    let _ = talk.client(ACK, 1, 1, b"new");
    talk.stamp = Some(900);
    let outcome = talk.client(ACK, 4, 1, b"old");
    assert_eq!(
        (names(outcome.events), outcome.verdict),
        (vec!["pkt_invalid_timestamp"], Verdict::Refused)
    );
    // After 25 days it may have gone round.
    talk.now.0 += 25 * 86_400 * 1_000_000_000;
    assert_eq!(talk.client(ACK, 4, 1, b"old").verdict, Verdict::Taken);
}

#[test]
fn a_segment_that_was_overtaken_has_an_older_clock_and_counts() {
    let mut talk = Talk::new(|_| {});
    talk.stamp = Some(1000);
    talk.shake_hands();
    talk.stamp = Some(1020);
    let _ = talk.client(ACK, 4, 1, b"two");
    talk.stamp = Some(1010);
    assert_eq!(talk.client(ACK, 1, 1, b"one").verdict, Verdict::Taken);
    let _ = talk.server(ACK, 1, 7, b"");
    assert_eq!(talk.heard(Side::Client), b"onetwo");
}

#[test]
fn an_urgent_byte_is_left_out_unless_it_is_to_be_read_in_line() {
    for (urgent, wanted) in [(Urgent::LeftOut, &b"EVIL"[..]), (Urgent::Inline, b"EV!IL")] {
        let mut talk = Talk::open(|s| s.urgent = urgent);
        talk.urgent = 3;
        let _ = talk.client(ACK | URG, 1, 1, b"EV!IL");
        let _ = talk.server(ACK, 1, 6, b"");
        assert_eq!(talk.heard(Side::Client), wanted);
        talk.end();
    }
}

#[test]
fn more_urgent_bytes_than_are_left_out_stay_in_line() {
    let mut talk = Talk::open(|_| {});
    talk.urgent = 1;
    for i in 0..65 {
        let outcome = talk.client(ACK | URG, 1 + i, 1, b"u");
        assert_eq!(outcome.events.has(Event::ReassemblyUrgentOobLimitReached), i == 64);
    }
    let _ = talk.server(ACK, 1, 66, b"");
    assert_eq!(talk.heard(Side::Client), b"u");
    assert_eq!(talk.count(Counter::UrgentOobData), 64);
    talk.end();
}

#[test]
fn a_direction_is_told_up_to_its_depth_and_the_connection_is_done_with_both() {
    let mut talk = Talk::open(|s| s.depth = 10);
    let _ = talk.client(ACK, 1, 1, b"01234567");
    let _ = talk.client(ACK, 9, 1, b"89abcd");
    let outcome = talk.server(ACK, 1, 15, b"");
    assert!(outcome.events.has(Event::ReassemblyDepthReached) && !outcome.is_done);
    let _ = talk.client(ACK, 15, 1, b"more");
    let outcome = talk.server(ACK, 1, 19, &[9; 20]);
    assert!(outcome.events.is_empty());
    assert_eq!(talk.heard(Side::Client), b"0123456789");
    assert!(talk.client(ACK, 19, 21, b"").is_done);
    assert_eq!(talk.count(Counter::StreamDepthReached), 2);
    // What raw rules were not shown yet, they are.
    let all = talk.streams.window(talk.id(), Side::Client, When::Full, |w| w.bytes.to_vec());
    assert_eq!(all.as_deref(), Some(&b"0123456789"[..]));
    let _ = talk.streams.window(talk.id(), Side::Server, When::Now, |_| ());
    assert_eq!(talk.streams.bytes_in_use(), 0);
}

#[test]
fn windows_come_in_chunks_with_the_bytes_before_them() {
    let mut talk = Talk::open(|s| (s.chunk, s.history) = ([6, 6], 3));
    let id = talk.id();
    let _ = talk.client(ACK, 1, 1, b"abcd");
    let _ = talk.server(ACK, 1, 5, b"");
    let show = |w: Window<'_>| (w.offset, w.history, w.bytes.to_vec());
    assert_eq!(talk.streams.window(id, Side::Client, When::Full, show), None);
    let _ = talk.client(ACK, 5, 1, b"efgh");
    let _ = talk.server(ACK, 1, 9, b"");
    let window = talk.streams.window(id, Side::Client, When::Full, show);
    assert_eq!(window, Some((0, 0, b"abcdefgh".to_vec())));
    let _ = talk.client(ACK, 9, 1, b"ij");
    let _ = talk.server(ACK, 1, 11, b"");
    let window = talk.streams.window(id, Side::Client, When::Now, show);
    assert_eq!(window, Some((5, 3, b"fghij".to_vec())));
    assert_eq!(talk.streams.window(id, Side::Client, When::Now, show), None);
}

#[test]
fn a_direction_that_is_stopped_keeps_nothing_and_has_no_gaps() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"abc");
    talk.streams.stop(talk.id(), Side::Client);
    assert_eq!(talk.streams.bytes_in_use(), 0);
    let _ = talk.client(ACK, 4, 1, b"def");
    let _ = talk.server(ACK, 1, 7, b"200");
    let _ = talk.client(ACK, 7, 4, b"");
    assert_eq!((talk.heard(Side::Client), talk.heard(Side::Server)), (&b""[..], &b"200"[..]));
    assert!(talk.end().gaps.is_empty());
}

#[test]
fn a_payload_that_the_capture_cut_leaves_a_gap() {
    let mut talk = Talk::open(|_| {});
    let segment = Segment {
        flags: TcpFlags(ACK),
        seq: talk.isn[0].wrapping_add(1),
        ack: talk.isn[1].wrapping_add(1),
        window: 8192,
        length: 10,
        payload: b"0123",
        ..Segment::default()
    };
    let _ = talk.streams.segment(&talk.key, talk.client, &segment, talk.now, &mut talk.heard);
    let _ = talk.client(ACK, 11, 1, b"next");
    let _ = talk.server(ACK, 1, 15, b"");
    assert_eq!(talk.heard(Side::Client), b"0123next");
    assert_eq!(talk.heard.gaps, [(Side::Client, 4, 6)]);
}
