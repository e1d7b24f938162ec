//! What is told of usual traffic.

use super::*;
use crate::ids::eve::{FlowEnd, FlowState, PacketSource};
use crate::ids::stream::TcpState;

#[test]
fn a_request_and_its_answer_are_one_record_and_the_connection_is_another_one() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    assert!(site.told.0.is_empty());
    let _ = talk.says(&mut site, Server, ANSWER);
    assert_eq!(site.told.kinds(), ["http"]);
    let http = &site.told.0[0];
    assert_eq!((http.head.src, http.head.sport), (Some(host(1)), Some(40_000)));
    assert_eq!((http.head.dst, http.head.dport), (Some(host(2)), Some(80)));
    // The answer counts once the client has acknowledged it: the seventh packet.
    assert_eq!((http.head.pcap_cnt, http.head.transaction), (Some(7), Some(0)));
    let flow_id = http.head.flow_id;
    assert!(flow_id.is_some_and(|id| id < 1 << 51));
    let told = site.ends();
    assert_eq!(told.kinds(), ["http", "flow"]);
    let flow = told.flows()[0];
    assert_eq!(told.0[1].head.flow_id, flow_id);
    assert_eq!(told.0[1].head.src, Some(host(1)));
    assert_eq!(flow.apps.protocol.map(|protocol| protocol.name()), Some("http"));
    assert_eq!(flow.summary.counts.packets, [4, 3]);
    let [up, down] = flow.summary.counts.bytes;
    assert_eq!(up, 4 * 54 + REQUEST.len() as u64);
    assert_eq!(down, 3 * 54 + ANSWER.len() as u64);
    assert_eq!((flow.state, flow.reason), (FlowState::Established, FlowEnd::Shutdown));
    assert_eq!((flow.transactions, flow.alerted, flow.action), (1, false, None));
    let tcp = flow.tcp.expect("a connection");
    assert_eq!((tcp.flags, tcp.flags_to_server, tcp.flags_to_client), (0x1a, 0x1a, 0x1a));
    assert_eq!((tcp.state, tcp.has_gaps), (Some(TcpState::Established), [false; 2]));
}

#[test]
fn a_request_without_an_answer_is_told_at_the_end() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let frame = talk.frame(Client, "ap", REQUEST);
    let _ = site.sees(&frame);
    talk.sent(Client, REQUEST.len());
    let told = site.ends();
    assert_eq!(told.kinds(), ["http", "flow"]);
    assert_eq!(told.0[0].head.source, PacketSource::FlowTimeout);
    assert_eq!(told.0[0].head.pcap_cnt, None);
}

#[test]
fn bytes_that_are_missing_are_a_gap_of_their_side() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    talk.sent(Server, 1000);
    let _ = talk.says(&mut site, Server, b"more");
    let flow = site.ends().flows()[0].clone();
    assert_eq!(flow.tcp.map(|tcp| tcp.has_gaps), Some([false, true]));
}

#[test]
fn a_query_and_its_answer_are_two_records_of_one_flow() {
    let mut site = Site::new(|_| ());
    let _ = site.sees(&query());
    let _ = site.sees(&response());
    assert_eq!(site.told.kinds(), ["dns", "dns"]);
    assert_eq!(site.told.0[1].head.src, Some(host(1)));
    let told = site.ends();
    let flow = told.flows()[0];
    assert_eq!(flow.summary.counts.packets, [1, 1]);
    assert_eq!((flow.state, flow.transactions), (FlowState::Established, 2));
    assert_eq!(flow.tcp, None);
}

#[test]
fn an_answer_that_comes_first_turns_the_flow_round() {
    let mut site = Site::new(|_| ());
    let _ = site.sees(&response());
    let told = site.ends();
    assert_eq!(told.kinds(), ["dns", "flow"]);
    assert_eq!((told.0[0].head.src, told.0[1].head.src), (Some(host(1)), Some(host(1))));
    assert_eq!(told.flows()[0].summary.counts.packets, [0, 1]);
}

fn icmp(from: u8, to: u8, kind: etherparse::Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, from], [10, 0, 0, to], 64)
        .icmpv4(kind);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

#[test]
fn a_ping_and_its_answer_are_one_flow() {
    use etherparse::{IcmpEchoHeader, Icmpv4Type};
    let mut site = Site::new(|_| ());
    let echo = |seq| IcmpEchoHeader { id: 7, seq };
    for seq in 0..3 {
        let _ = site.sees(&icmp(1, 2, Icmpv4Type::EchoRequest(echo(seq)), b"abc"));
        let _ = site.sees(&icmp(2, 1, Icmpv4Type::EchoReply(echo(seq)), b"abc"));
    }
    let told = site.ends();
    assert_eq!(told.kinds(), ["flow"]);
    let flow = told.flows()[0];
    assert_eq!(flow.summary.counts.packets, [3, 3]);
    assert_eq!(flow.state, FlowState::Established);
    assert_eq!((told.0[0].head.icmp, flow.response_icmp), (Some((8, 0)), Some((0, 0))));
}

#[test]
fn an_error_belongs_to_the_flow_that_it_quotes_and_opens_none() {
    use etherparse::Icmpv4Type;
    use etherparse::icmpv4::DestUnreachableHeader;
    let mut site = Site::new(|_| ());
    let asked = udp(([10, 0, 0, 1], 5000), ([10, 0, 0, 2], 9999), b"x");
    let quoted = &asked[14..42];
    let error = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let frame = icmp(2, 1, error, quoted);
    let _ = site.sees(&frame);
    assert_eq!(site.inspector.flows(), 0);
    let _ = site.sees(&asked);
    let _ = site.sees(&frame);
    let told = site.ends();
    assert_eq!(told.kinds(), ["flow"]);
    assert_eq!(told.flows()[0].summary.counts.packets, [1, 1]);
    // An error is no answer.
    assert_eq!(told.flows()[0].state, FlowState::New);
}

#[test]
fn a_segment_with_a_wrong_checksum_is_of_no_stream_unless_that_is_wanted() {
    let run = |checksums| {
        let mut site = Site::new(|settings| settings.checksums = checksums);
        let mut talk = Talk::open(&mut site, 80);
        let mut wrong = talk.frame(Client, "ap", b"GET /other HTTP/1.0\r\n\r\n");
        wrong[50] ^= 0x55;
        let _ = site.sees(&wrong);
        let _ = talk.says(&mut site, Client, b"GET /right HTTP/1.0\r\n\r\n");
        let _ = talk.says(&mut site, Server, ANSWER);
        let wrong = site.inspector.counters().get(Counter::BadChecksums);
        (wrong, format!("{:?}", site.ends().of(Kind::Http)[0].body))
    };
    let bytes = |text: &str| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_string();
    let (wrong, http) = run(Checksums::Validate);
    assert_eq!(wrong, 1);
    assert!(http.contains(&bytes("/right")), "{http}");
    let (wrong, http) = run(Checksums::Ignore);
    assert_eq!(wrong, 0);
    assert!(http.contains(&bytes("/other")), "{http}");
}

#[test]
fn a_handshake_without_its_syn_is_followed_from_the_server_when_that_is_wanted() {
    let mut site = Site::new(|settings| {
        settings.streams.midstream = stream::Midstream::PickUp;
    });
    let mut talk = Talk::new(80);
    let [_, syn_ack, ack] = talk.handshake();
    let _ = site.sees(&syn_ack);
    let _ = site.sees(&ack);
    let _ = talk.says(&mut site, Client, REQUEST);
    let _ = talk.says(&mut site, Server, ANSWER);
    let told = site.ends();
    assert_eq!(told.kinds(), ["http", "flow"]);
    assert_eq!(told.0[1].head.src, Some(host(1)));
    assert_eq!(told.flows()[0].summary.counts.packets, [3, 3]);
}

#[test]
fn a_connection_met_in_the_answer_is_turned_round() {
    let mut site = Site::new(|settings| {
        settings.streams.midstream = stream::Midstream::PickUp;
    });
    let mut talk = Talk::new(80);
    let _ = talk.says(&mut site, Server, ANSWER);
    let _ = talk.says(&mut site, Client, REQUEST);
    let told = site.ends();
    assert_eq!(told.0.last().map(|record| record.head.src), Some(Some(host(1))));
    assert_eq!(told.flows()[0].summary.counts.packets, [2, 2]);
    assert!(!told.of(Kind::Http).is_empty());
}

#[test]
fn a_connection_that_is_not_followed_has_a_record_all_the_same() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::new(80);
    let _ = talk.says(&mut site, Client, REQUEST);
    let told = site.ends();
    assert_eq!(told.kinds(), ["flow"]);
    let flow = told.flows()[0];
    assert_eq!(flow.summary.counts.packets, [1, 1]);
    assert_eq!(flow.tcp.map(|tcp| (tcp.flags, tcp.state)), Some((0, None)));
}

#[test]
fn what_is_odd_is_told_where_it_is_wanted() {
    let mut site = Site::new(|settings| {
        if let Some(anomaly) = &mut settings.records.anomaly {
            (anomaly.decode, anomaly.stream) = (true, true);
        }
    });
    let mut talk = Talk::open(&mut site, 80);
    let _ = site.sees(&talk.frame(Server, "sa", &[]));
    let mut cut = query();
    cut.truncate(50);
    let _ = site.sees(&cut);
    let _ = talk.says(&mut site, Client, b"GET /\r\nHost\r\n\r\n");
    let told = site.ends();
    let odd: Vec<String> =
        told.of(Kind::Anomaly).iter().map(|record| format!("{:?}", record.body)).collect();
    assert!(odd.iter().any(|text| text.contains("est_synack_resend")), "{odd:?}");
    assert!(odd.iter().any(|text| text.contains("ipv4.trunc_pkt")), "{odd:?}");
}

#[test]
fn the_same_capture_gives_the_same_numbers_and_another_start_others() {
    let run = |shift: u64| {
        let mut site = Site::new(|_| ());
        site.now.0 += shift;
        let _ = site.sees(&query());
        site.ends().0[0].head.flow_id
    };
    assert_eq!(run(0), run(0));
    assert_ne!(run(0), run(1));
}
