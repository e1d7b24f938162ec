//! FINs, RSTs, and time.

use super::*;

#[test]
fn a_connection_that_the_client_closes_goes_through_its_states() {
    let mut talk = Talk::open(|_| {});
    assert_eq!(talk.client(FIN | ACK, 1, 1, b"bye").state, TcpState::CloseWait);
    assert_eq!(talk.server(ACK, 1, 5, b"still here").state, TcpState::CloseWait);
    assert_eq!(talk.heard(Side::Client), b"bye");
    assert_eq!(talk.server(FIN | ACK, 11, 5, b"").state, TcpState::LastAck);
    let last = talk.client(ACK, 5, 12, b"");
    assert_eq!(last.state, TcpState::Closed);
    assert!(last.events.is_empty());
    assert_eq!(talk.heard(Side::Server), b"still here");
    assert_eq!(talk.streams.view(talk.id()).expect("it").sent, [3, 10]);
    assert!(talk.end().gaps.is_empty());
}

#[test]
fn a_connection_that_the_server_closes_goes_through_its_states() {
    let mut talk = Talk::open(|_| {});
    assert_eq!(talk.server(FIN | ACK, 1, 1, b"").state, TcpState::FinWait1);
    assert_eq!(talk.client(ACK, 1, 2, b"").state, TcpState::FinWait2);
    assert_eq!(talk.client(FIN | ACK, 1, 2, b"").state, TcpState::TimeWait);
    assert_eq!(talk.server(ACK, 2, 2, b"").state, TcpState::Closed);

    let mut talk = Talk::open(|_| {});
    let _ = talk.server(FIN | ACK, 1, 1, b"");
    assert_eq!(talk.client(FIN | ACK, 1, 1, b"").state, TcpState::Closing);
    assert_eq!(talk.client(ACK, 2, 2, b"").state, TcpState::TimeWait);
    assert_eq!(talk.server(ACK, 2, 2, b"").state, TcpState::Closed);

    let mut talk = Talk::open(|_| {});
    let _ = talk.server(FIN | ACK, 1, 1, b"");
    assert_eq!(talk.client(FIN | ACK, 1, 2, b"").state, TcpState::TimeWait);
}

#[test]
fn a_fin_is_no_byte_and_its_acknowledgement_no_gap() {
    let mut talk = Talk::open(|_| {});
    // The FIN itself is not seen.
    let _ = talk.client(ACK, 1, 1, b"last");
    let _ = talk.server(ACK, 1, 6, b"");
    assert_eq!(talk.heard(Side::Client), b"last");
    let heard = talk.end();
    assert!(heard.gaps.is_empty(), "{:?}", heard.gaps);
}

#[test]
fn a_rst_ends_a_connection_and_tells_what_nobody_acknowledged_but_not_its_own_bytes() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"let me in");
    let outcome = talk.server(RST | ACK, 1, 10, b"denied");
    assert_eq!((outcome.state, outcome.verdict), (TcpState::Closed, Verdict::NoPayload));
    assert_eq!(talk.heard(Side::Client), b"let me in");
    assert_eq!(talk.end().bytes[1], b"");
}

#[test]
fn a_rst_that_its_receiver_would_not_take_changes_nothing() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"0123456789");
    let _ = talk.server(ACK, 1, 11, b"");
    for seq in [5, 12, 100_000] {
        let outcome = talk.client(RST, seq, 0, b"");
        assert_eq!(
            (outcome.verdict, names(outcome.events)),
            (Verdict::Refused, vec!["rst_invalid_ack"])
        );
    }
    assert_eq!(talk.state(), TcpState::Established);
    assert_eq!(talk.client(RST, 11, 0, b"").state, TcpState::Closed);

    // Linux takes one from within its window.
    let hosts = HostPolicies::new(Vec::new(), OverlapPolicy::Linux);
    let mut talk = Talk::open(|s| s.hosts = hosts);
    assert_eq!(talk.client(RST, 12, 0, b"").state, TcpState::Closed);
}

#[test]
fn a_connection_whose_rst_was_not_taken_goes_on() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"one");
    // Who injects it does not speak for the client: the server goes on.
    assert_eq!(talk.client(RST, 4, 0, b"").state, TcpState::Closed);
    let outcome = talk.server(ACK, 1, 4, b"answer");
    assert_eq!(names(outcome.events), ["suspected_rst_inject"]);
    assert_eq!(outcome.state, TcpState::Established);
    let _ = talk.client(ACK, 4, 7, b"two");
    let _ = talk.server(ACK, 7, 7, b"");
    assert_eq!(talk.heard(Side::Client), b"onetwo");
    assert_eq!(talk.heard(Side::Server), b"answer");
    // Then it ends as any other.
    let _ = talk.client(FIN | ACK, 7, 7, b"");
    let _ = talk.server(FIN | ACK, 7, 8, b"");
    let _ = talk.client(ACK, 8, 8, b"");
    let outcome = talk.server(ACK, 8, 8, b"");
    assert_eq!((outcome.state, outcome.verdict), (TcpState::Closed, Verdict::NoPayload));
    assert!(outcome.events.is_empty());
}

#[test]
fn a_rst_that_is_not_taken_leaves_holes_open() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 5, 1, b"VIL");
    let _ = talk.client(RST, 8, 0, b"");
    let _ = talk.client(ACK, 1, 1, b"...E");
    assert_eq!(talk.heard(Side::Client), b"");
    let _ = talk.server(ACK, 1, 1, b"");
    let _ = talk.client(ACK, 1, 1, b"...E");
    let _ = talk.server(ACK, 1, 8, b"");
    assert_eq!(talk.heard(Side::Client), b"...EVIL");
}

#[test]
fn a_new_syn_after_the_end_is_a_new_connection() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(FIN | ACK, 1, 1, b"");
    let _ = talk.server(FIN | ACK, 1, 2, b"");
    let outcome = talk.client(SYN, 70_000, 0, b"");
    assert_eq!((outcome.verdict, outcome.stream), (Verdict::Reopens, Some(talk.id())));
    let id = talk.id();
    let _ = talk.streams.finish(id, &mut talk.heard);
    talk.streams.forget(id);
    assert!(talk.client(SYN, 70_000, 0, b"").is_new);

    let mut talk = Talk::open(|_| {});
    let _ = talk.client(FIN | ACK, 1, 1, b"");
    assert_eq!(names(talk.client(SYN, 70_000, 0, b"").events), ["shutdown_syn_resend"]);
}

#[test]
fn what_is_out_of_place_while_closing_is_named_by_the_state() {
    let far = 90_000;
    type Steps<'a> = &'a [(Side, u8, u32, u32)];
    let (c, s) = (Side::Client, Side::Server);
    let client_closes: Steps<'_> = &[(c, FIN | ACK, 1, 1)];
    let server_closes: Steps<'_> = &[(s, FIN | ACK, 1, 1)];
    let half_closed: Steps<'_> = &[(s, FIN | ACK, 1, 1), (c, ACK, 1, 2)];
    let both: Steps<'_> = &[(s, FIN | ACK, 1, 1), (c, FIN | ACK, 1, 1)];
    let last: Steps<'_> = &[(c, FIN | ACK, 1, 1), (s, FIN | ACK, 1, 2)];
    let waits: Steps<'_> = &[(s, FIN | ACK, 1, 1), (c, FIN | ACK, 1, 2)];
    let cases: [(Steps<'_>, Side, u8, u32, u32, &str); 13] = [
        (client_closes, s, ACK, far, 2, "closewait_ack_out_of_window"),
        (client_closes, s, FIN | ACK, far, 2, "closewait_fin_out_of_window"),
        (client_closes, s, ACK, 1, far, "closewait_invalid_ack"),
        (server_closes, c, ACK, far, 2, "fin1_ack_wrong_seq"),
        (server_closes, c, FIN | ACK, far, 2, "fin1_fin_wrong_seq"),
        (server_closes, c, ACK, 1, far, "fin1_invalid_ack"),
        (half_closed, c, ACK, far, 2, "fin2_ack_wrong_seq"),
        (half_closed, c, FIN | ACK, far, 2, "fin2_fin_wrong_seq"),
        (both, c, ACK, far, 2, "closing_ack_wrong_seq"),
        (both, c, ACK, 2, far, "closing_invalid_ack"),
        (last, c, ACK, far, 2, "lastack_ack_wrong_seq"),
        (waits, s, ACK, far, 2, "timewait_ack_wrong_seq"),
        (waits, s, ACK, 2, far, "timewait_invalid_ack"),
    ];
    for (steps, side, flags, seq, ack, name) in cases {
        let mut talk = Talk::open(|_| {});
        for (side, flags, seq, ack) in steps {
            assert_ne!(talk.send(*side, *flags, *seq, *ack, b"").verdict, Verdict::Refused);
        }
        let outcome = talk.send(side, flags, seq, ack, b"");
        assert!(
            outcome.events.has(Event::named(name).expect(name)),
            "{name}: {:?}",
            names(outcome.events)
        );
        assert_eq!(outcome.verdict, Verdict::Refused);
    }
}

#[test]
fn an_idle_connection_is_due_after_the_time_of_its_phase() {
    let mut talk = Talk::new(|_| {});
    let second = |talk: &Talk, n: u64| Time(talk.now.0 + n * 1_000_000_000);
    let _ = talk.client(SYN, 0, 0, b"");
    assert_eq!(talk.streams.due(second(&talk, 59)), None);
    assert_eq!(talk.streams.due(second(&talk, 61)), Some((talk.id(), Over::Idle)));
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    let _ = talk.client(ACK, 1, 1, b"");
    assert_eq!(talk.streams.due(second(&talk, 599)), None);
    assert_eq!(talk.streams.due(second(&talk, 601)), Some((talk.id(), Over::Idle)));
    let _ = talk.client(RST, 1, 0, b"");
    assert_eq!(talk.streams.due(second(&talk, 61)), Some((talk.id(), Over::Idle)));
    // Time that goes back is no time.
    assert_eq!(talk.streams.due(Time(5)), None);
}

#[test]
fn finishing_tells_what_nobody_acknowledged_with_its_gaps() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"VERY");
    let _ = talk.client(ACK, 9, 1, b"DATA");
    assert_eq!(talk.heard(Side::Client), b"");
    let id = talk.id();
    let mut held = Vec::new();
    talk.streams.each_held(id, Side::Client, |offset, bytes| held.push((offset, bytes.to_vec())));
    assert_eq!(held, [(0, b"VERY".to_vec()), (8, b"DATA".to_vec())]);
    let events = talk.streams.finish(id, &mut talk.heard);
    assert_eq!(names(events), ["reassembly_seq_gap"]);
    assert_eq!(talk.heard(Side::Client), b"VERYDATA");
    assert_eq!(talk.heard.gaps, [(Side::Client, 4, 4)]);
    // Raw rules see both parts.
    let mut windows = Vec::new();
    while let Some(part) =
        talk.streams.window(id, Side::Client, When::Now, |w| (w.offset, w.bytes.to_vec()))
    {
        windows.push(part);
    }
    assert_eq!(windows, [(0, b"VERY".to_vec()), (8, b"DATA".to_vec())]);
}

/// Writes down what it is told, in order.
#[derive(Default)]
struct Diary(Vec<String>);

impl Sink for Diary {
    fn data(&mut self, _: StreamId, from: Side, _: u64, bytes: &[u8]) {
        self.0.push(format!("{from:?} {}", String::from_utf8_lossy(bytes)));
    }

    fn gap(&mut self, _: StreamId, from: Side, _: u64, length: u64) {
        self.0.push(format!("{from:?} misses {length}"));
    }
}

#[test]
fn at_the_end_both_sides_are_told_before_the_holes_of_either() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"one");
    let _ = talk.client(ACK, 10, 1, b"two");
    let _ = talk.server(ACK, 1, 1, b"three");
    let mut diary = Diary::default();
    let id = talk.id();
    let _ = talk.streams.finish(id, &mut diary);
    assert_eq!(diary.0, ["Client one", "Server three", "Client misses 6", "Client two"]);
}
