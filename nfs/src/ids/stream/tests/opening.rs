//! Handshakes of all kinds.

use super::*;

#[test]
fn a_handshake_opens_a_connection_and_tells_who_is_the_client() {
    let mut talk = Talk::new(|_| {});
    let syn = talk.client(SYN, 0, 0, b"");
    assert_eq!(
        (syn.verdict, syn.state, syn.side),
        (Verdict::Taken, TcpState::SynSent, Side::Client)
    );
    assert!(!syn.state.is_established());
    let answer = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!((answer.side, answer.state), (Side::Server, TcpState::SynRecv));
    assert_eq!(talk.client(ACK, 1, 1, b"").state, TcpState::Established);
    let view = talk.streams.view(talk.id()).expect("a connection");
    assert_eq!((view.client, view.key.port(view.client)), (talk.client, 40_000));
    assert!(view.began_with_syn);
}

#[test]
fn the_handshakes_last_ack_may_bring_bytes_or_be_lost() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!(talk.client(ACK, 1, 1, b"GET").state, TcpState::Established);
    let _ = talk.server(ACK, 1, 4, b"");
    assert_eq!(talk.heard(Side::Client), b"GET");

    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!(talk.server(ACK, 1, 1, b"220 hello").state, TcpState::Established);
}

#[test]
fn inline_bytes_of_the_server_before_the_clients_ack_are_an_injection() {
    let mut talk = Talk::new(|s| s.mode = Mode::Inline);
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    let outcome = talk.server(ACK, 1, 1, b"220 hello");
    assert_eq!(outcome.verdict, Verdict::Refused);
    assert_eq!(names(outcome.events), ["3whs_ack_data_inject"]);
}

#[test]
fn a_syn_ack_with_a_wrong_number_is_refused_and_the_right_one_is_not() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let wrong = talk.server(SYN | ACK, 0, 7, b"");
    assert_eq!(names(wrong.events), ["3whs_synack_with_wrong_ack"]);
    let backwards = talk.client(SYN | ACK, 0, 1, b"");
    assert_eq!(names(backwards.events), ["3whs_synack_in_wrong_direction"]);
    assert_eq!(talk.server(SYN | ACK, 0, 1, b"").state, TcpState::SynRecv);
    let evasion = talk.client(ACK, 1, 99, b"x");
    assert_eq!(names(evasion.events), ["3whs_right_seq_wrong_ack_evasion"]);
    let wrong = talk.client(ACK, 90_000, 99, b"x");
    assert_eq!(names(wrong.events), ["3whs_wrong_seq_wrong_ack"]);
    assert_eq!(talk.client(ACK, 1, 1, b"").state, TcpState::Established);
}

#[test]
fn of_two_syns_the_one_that_the_server_answers_counts() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    assert_eq!(talk.client(SYN, 5000, 0, b"").verdict, Verdict::NoPayload);
    let answer = talk.server(SYN | ACK, 0, 5001, b"");
    assert_eq!((answer.verdict, answer.state), (Verdict::Taken, TcpState::SynRecv));
    let _ = talk.client(ACK, 5001, 1, b"GET /");
    let _ = talk.server(ACK, 1, 5006, b"");
    assert_eq!(talk.heard(Side::Client), b"GET /");
}

#[test]
fn of_two_syn_acks_the_one_that_the_client_acknowledges_counts() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!(talk.server(SYN | ACK, 7000, 1, b"").verdict, Verdict::NoPayload);
    let outcome = talk.client(ACK, 1, 7001, b"");
    assert_eq!(outcome.state, TcpState::Established);
    let _ = talk.server(ACK, 7001, 1, b"hello");
    let _ = talk.client(ACK, 1, 7006, b"");
    assert_eq!(talk.heard(Side::Server), b"hello");
    talk.end();
}

#[test]
fn a_flood_of_different_syn_acks_is_named_and_takes_no_more_memory() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    let last = (1..=6).map(|i| talk.server(SYN | ACK, i * 1000, 1, b"")).last();
    let last = last.expect("six");
    assert!(last.events.has(Event::HandshakeSynackFlood));
    assert_eq!(last.verdict, Verdict::Refused);
}

#[test]
fn a_fast_open_syn_brings_bytes_that_count_once_they_are_taken() {
    for mode in [Mode::Passive, Mode::Inline] {
        let mut talk = Talk::new(|s| s.mode = mode);
        talk.fast_open = true;
        let _ = talk.client(SYN, 0, 0, b"GET / ");
        assert_eq!(talk.heard(Side::Client), b"");
        let _ = talk.server(SYN | ACK, 0, 7, b"");
        assert_eq!(talk.heard(Side::Client), b"GET / ");
        // The server need not wait for the client's ACK.
        let outcome = talk.server(ACK, 1, 7, b"200");
        assert!(outcome.events.is_empty(), "{:?}", names(outcome.events));
        let _ = talk.server(FIN | ACK, 4, 7, b"");
        let _ = talk.client(ACK, 7, 5, b"");
        assert_eq!(talk.heard(Side::Server), b"200");
    }
}

#[test]
fn bytes_of_a_syn_that_the_server_does_not_take_may_become_others() {
    let mut talk = Talk::new(|_| {});
    talk.fast_open = true;
    let _ = talk.client(SYN, 0, 0, b"GOOD");
    let answer = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!(names(answer.events), ["3whs_synack_tfo_data_ignored"]);
    let outcome = talk.client(ACK, 1, 1, b"EVIL");
    assert!(outcome.events.is_empty(), "{:?}", names(outcome.events));
    let _ = talk.server(ACK, 1, 5, b"");
    assert_eq!(talk.heard(Side::Client), b"EVIL");
    talk.end();
}

/// Five segments: SYN; the server's bare ACK, its own SYN; the client's SYN-ACK; the server's ACK.
#[test]
fn a_split_handshake_opens_a_connection_with_the_same_client() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    // Its number means nothing yet.
    assert_eq!(talk.server(ACK, 90_000, 1, b"").verdict, Verdict::NoPayload);
    assert_eq!(talk.server(SYN, 0, 0, b"").verdict, Verdict::NoPayload);
    assert_eq!(talk.client(SYN | ACK, 0, 1, b"").state, TcpState::SynRecv);
    assert_eq!(talk.server(ACK, 1, 1, b"").state, TcpState::Established);
    let _ = talk.client(ACK, 1, 1, b"EVIL");
    let outcome = talk.server(ACK, 1, 5, b"");
    assert!(outcome.events.is_empty());
    assert_eq!(talk.heard(Side::Client), b"EVIL");
}

#[test]
fn what_does_not_fit_a_handshake_in_four_is_named() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN, 0, 0, b"");
    assert_eq!(names(talk.client(SYN | ACK, 0, 2, b"").events), ["4whs_synack_with_wrong_ack"]);
    assert_eq!(names(talk.client(SYN | ACK, 1, 1, b"").events), ["4whs_synack_with_wrong_syn"]);
    let _ = talk.client(SYN | ACK, 0, 1, b"");
    assert_eq!(names(talk.server(ACK, 2, 1, b"").events), ["4whs_wrong_seq"]);
    assert_eq!(names(talk.server(ACK, 1, 2, b"").events), ["4whs_invalid_ack"]);
    assert_eq!(talk.server(ACK, 1, 1, b"").state, TcpState::Established);
}

#[test]
fn both_may_open_at_once() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    let _ = talk.server(SYN, 0, 0, b"");
    let _ = talk.client(SYN | ACK, 0, 1, b"");
    let outcome = talk.server(SYN | ACK, 0, 1, b"");
    assert!(outcome.events.is_empty());
    let _ = talk.client(ACK, 1, 1, b"hello");
    let outcome = talk.server(ACK, 1, 6, b"");
    assert_eq!(outcome.state, TcpState::Established);
    assert_eq!(talk.heard(Side::Client), b"hello");
}

#[test]
fn the_midst_of_a_connection_is_left_alone_unless_it_is_to_be_picked_up() {
    let mut talk = Talk::new(|_| {});
    let outcome = talk.client(ACK, 100, 100, b"GET /");
    assert_eq!(outcome.verdict, Verdict::NotFollowed(NotFollowed::Midstream));
    assert_eq!((outcome.stream, talk.streams.len()), (None, 0));
    let outcome = talk.server(SYN | ACK, 0, 1, b"");
    assert_eq!(outcome.verdict, Verdict::NotFollowed(NotFollowed::Midstream));

    let mut talk = Talk::new(|s| s.midstream = Midstream::PickUp);
    let outcome = talk.client(ACK, 100, 100, b"GET /");
    assert_eq!((outcome.side, outcome.state), (Side::Client, TcpState::Established));
    let _ = talk.server(ACK, 100, 105, b"200");
    assert_eq!(talk.heard(Side::Client), b"GET /");
    let _ = talk.client(ACK, 105, 103, b"");
    assert_eq!(talk.heard(Side::Server), b"200");
    assert!(!talk.streams.view(talk.id()).expect("it").began_with_syn);
    assert_eq!(talk.count(Counter::MidstreamPickups), 1);
}

#[test]
fn a_rst_or_a_fin_of_no_connection_begins_none() {
    let mut talk = Talk::new(|s| s.midstream = Midstream::PickUp);
    assert_eq!(names(talk.client(RST, 5, 0, b"").events), ["rst_but_no_session"]);
    assert_eq!(names(talk.client(FIN | ACK, 5, 0, b"").events), ["fin_but_no_session"]);
    assert_eq!(names(talk.client(FIN | SYN, 5, 0, b"").events), ["fin_syn"]);
    assert_eq!(talk.client(0, 5, 0, b"x").verdict, Verdict::NotFollowed(NotFollowed::NoSession));
    assert_eq!(talk.streams.len(), 0);
}

#[test]
fn one_side_alone_is_followed_where_that_is_wanted_and_told_at_once() {
    let mut talk = Talk::new(|s| s.one_side = OneSide::Follow);
    let _ = talk.client(SYN, 0, 0, b"");
    let outcome = talk.client(ACK, 1, 1, b"GET /");
    assert_eq!(outcome.state, TcpState::Established);
    assert_eq!(talk.heard(Side::Client), b"GET /");

    // Without the SYN.
    let mut talk = Talk::new(|s| (s.one_side, s.midstream) = (OneSide::Follow, Midstream::PickUp));
    let _ = talk.client(ACK, 10, 100, b"");
    let _ = talk.client(ACK, 10, 200, b"GET /");
    assert_eq!(talk.heard(Side::Client), b"GET /");

    // The server's alone, from its SYN-ACK on.
    let mut talk = Talk::new(|s| s.one_side = OneSide::Follow);
    let _ = talk.server(SYN | ACK, 0, 1, b"");
    let outcome = talk.server(ACK, 1, 41, b"200 OK");
    assert_eq!((outcome.side, outcome.state), (Side::Server, TcpState::Established));
    assert_eq!(talk.heard(Side::Server), b"200 OK");
    assert_eq!(talk.end().gaps, [(Side::Client, 0, 40)]);

    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"");
    assert_eq!(talk.client(ACK, 1, 1, b"GET /").verdict, Verdict::Refused);
}

#[test]
fn once_both_sides_are_seen_bytes_wait_for_their_acknowledgement_again() {
    let mut talk = Talk::new(|s| (s.one_side, s.midstream) = (OneSide::Follow, Midstream::PickUp));
    let _ = talk.client(ACK, 10, 100, b"one");
    let _ = talk.server(ACK, 100, 13, b"");
    let _ = talk.client(ACK, 13, 100, b"two");
    assert_eq!(talk.heard(Side::Client), b"one");
    let _ = talk.server(ACK, 100, 16, b"");
    assert_eq!(talk.heard(Side::Client), b"onetwo");
}

#[test]
fn who_was_picked_up_as_the_client_may_turn_out_to_be_the_server() {
    let mut talk = Talk::new(|s| s.midstream = Midstream::PickUp);
    let _ = talk.client(ACK, 10, 100, b"200 OK");
    talk.streams.turn(talk.id());
    assert_eq!(talk.client(ACK, 16, 100, b"").side, Side::Server);
    let outcome = talk.server(ACK, 100, 16, b"GET /");
    assert_eq!((outcome.side, talk.heard(Side::Server)), (Side::Client, &b"200 OK"[..]));
    // A handshake leaves no doubt.
    let mut talk = Talk::open(|_| {});
    talk.streams.turn(talk.id());
    assert_eq!(talk.client(ACK, 1, 1, b"").side, Side::Client);
}

#[test]
fn bytes_of_a_syn_that_nobody_answers_are_never_told() {
    let mut talk = Talk::new(|_| {});
    let _ = talk.client(SYN, 0, 0, b"hello");
    assert_eq!(talk.end().bytes[0], b"");
}

#[test]
fn late_syns_are_named_by_what_they_are() {
    let mut talk = Talk::open(|_| {});
    let _ = talk.client(ACK, 1, 1, b"GET /");
    let _ = talk.server(ACK, 1, 6, b"200");
    let cases = [
        (Side::Client, SYN, 0, 0, "est_syn_resend"),
        (Side::Client, SYN, 9, 0, "est_syn_resend_diff_seq"),
        (Side::Server, SYN, 0, 0, "est_syn_toclient"),
        (Side::Client, SYN | ACK, 0, 1, "est_synack_toserver"),
        (Side::Server, SYN | ACK, 0, 1, "est_synack_resend"),
        (Side::Server, SYN | ACK, 9, 1, "est_synack_resend_with_diff_seq"),
        (Side::Server, SYN | ACK, 0, 9, "est_synack_resend_with_different_ack"),
    ];
    for (side, flags, seq, ack, name) in cases {
        let outcome = talk.send(side, flags, seq, ack, b"");
        assert_eq!((names(outcome.events), outcome.verdict), (vec![name], Verdict::Refused));
    }
    assert_eq!(talk.state(), TcpState::Established);
}
