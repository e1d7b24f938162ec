//! Whole records, as lines.

use std::net::IpAddr;
use std::sync::Arc;

use nfv_core::clock::Time;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::ids::app::event::Event as AppEvent;
use crate::ids::app::{App, Input, Limits, Pickup, Ports, Protocol, Side};
use crate::ids::rules::{Classes, RejectTo, Rule, Rules, Setup, Source, Variables as Groups};
use crate::ids::stream::{Event as StreamEvent, TcpState};

fn rule(text: &str) -> Arc<Rule> {
    let (variables, _) = Groups::new(&[], &[]);
    let setup = Setup { variables: &variables, classes: &Classes::default(), events: &[] };
    let rules = Rules::read(&[Source { name: "test.rules", text: text.as_bytes() }], &setup);
    Arc::new(rules.rules.into_iter().next().unwrap())
}

fn head() -> Head {
    Head {
        flow_id: Some(586_497_171_462_735),
        pcap_cnt: Some(7),
        src: Some("192.168.2.14".parse().unwrap()),
        dst: Some("209.53.113.5".parse().unwrap()),
        sport: Some(50096),
        dport: Some(80),
        protocol: Some(6),
        ..Head::at(Time(1_491_603_877_251_547_000))
    }
}

fn summary() -> FlowSummary {
    let counts = Counts { packets: [3, 2], bytes: [300, 200] };
    FlowSummary { counts, bypassed: None, start: Time(1_491_603_876_000_000_000) }
}

/// A flow in which both sides have said this.
fn talk(client: &[u8], server: &[u8]) -> App {
    let mut app = App::tcp(Ports { client: 50096, server: 80 }, Pickup::Start);
    for (side, bytes) in [(Side::ToServer, client), (Side::ToClient, server)] {
        app.feed(side, Input::Bytes(bytes), &Limits::default());
    }
    app
}

fn asked() -> App {
    let request =
        b"GET /a?b HTTP/1.1\r\nHost: Example.com:8080\r\nUser-Agent: x\"\xff\r\nReferer: r\r\n\r\n";
    let response = b"HTTP/1.1 302 Found\r\nContent-Type: text/html; charset=x\r\nLocation: /c\r\n\
        Content-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello";
    talk(request, response)
}

fn said(app: &App, place: Place, settings: &Settings) -> Option<Application> {
    Application::of(app.transactions().iter().next().unwrap(), place, settings)
}

fn line(head: Head, body: Body, settings: &Settings) -> String {
    let mut out = Vec::new();
    Record { head, body }.write(settings, &mut out);
    String::from_utf8(out).unwrap()
}

const HTTP: &str = concat!(
    r#""http":{"hostname":"example.com","http_port":8080,"url":"/a?b","http_user_agent":"x\"\\xff","#,
    r#""http_content_type":"text/html","content_range":{"raw":"bytes 0-4/9","start":0,"end":4,"size":9},"#,
    r#""http_refer":"r","http_method":"GET","protocol":"HTTP/1.1","status":302,"redirect":"/c","length":5}"#
);

#[test]
fn an_alert_has_its_rule_its_transaction_and_its_flow() {
    let rule = rule(
        "drop tcp any any -> any any (msg:\"a \\\"quoted\\\" name\"; classtype:trojan-activity; target:dest_ip; \
         metadata:tag One, tag Two, level 3; sid:2018358; rev:10;)",
    );
    let mut settings = Settings { community_id: Some(0), ..Settings::default() };
    if let Some(alert) = &mut settings.alert {
        (alert.payload, alert.payload_printable, alert.packet, alert.verdict) =
            (true, true, true, true);
    }
    let bits = vec!["seen".into(), "traffic/id/mozilla".into()];
    let variables = Variables { bits, numbers: vec![("n".into(), 3)] };
    let mut alert = Alert::of(&rule, AlertAction::Blocked);
    alert.side = Some(Side::ToServer);
    alert.apps.protocol = Some(Protocol::Http);
    alert.apps.to_client = Some(Protocol::Failed);
    alert.flow = Some(summary());
    alert.application = said(&asked(), Place::Alert, &settings);
    alert.payload = Some(Payload { bytes: (*b"GOOD\x00").into(), from: PayloadFrom::Stream });
    alert.packet = Some((*b"frame").into());
    alert.verdict = Some(Verdict::Drop);
    let head = Head {
        vlan: [Some(5), None, None],
        in_iface: Some("lan".into()),
        transaction: Some(4),
        variables: Some(Arc::new(variables)),
        ..head()
    };
    let expected = [
        r#"{"timestamp":"2017-04-07T22:24:37.251547+0000","flow_id":586497171462735,"in_iface":"lan","#,
        r#""pcap_cnt":7,"event_type":"alert","vlan":[5],"src_ip":"192.168.2.14","src_port":50096,"#,
        r#""dest_ip":"209.53.113.5","dest_port":80,"proto":"TCP","ip_v":4,"pkt_src":"wire/pcap","#,
        r#""traffic":{"id":["mozilla"]},"metadata":{"flowbits":["seen"],"flowints":{"n":3}},"#,
        r#""community_id":"1:W/yXjRHBENwcs6Kt+HuRRNUEpcU=","tx_id":4,"#,
        r#""alert":{"action":"blocked","gid":1,"signature_id":2018358,"rev":10,"#,
        r#""signature":"a \"quoted\" name","category":"A Network Trojan was detected","severity":1,"#,
        r#""source":{"ip":"192.168.2.14","port":50096},"target":{"ip":"209.53.113.5","port":80},"#,
        r#""metadata":{"tag":["One","Two"],"level":["3"]}},"#,
        HTTP,
        r#","app_proto":"http","app_proto_tc":"failed","direction":"to_server","#,
        r#""flow":{"pkts_toserver":3,"pkts_toclient":2,"bytes_toserver":300,"bytes_toclient":200,"#,
        r#""start":"2017-04-07T22:24:36.000000+0000","src_ip":"192.168.2.14","dest_ip":"209.53.113.5","#,
        r#""src_port":50096,"dest_port":80},"payload":"R09PRAA=","payload_printable":"GOOD.","stream":1,"#,
        r#""packet":"ZnJhbWU=","packet_info":{"linktype":1,"linktype_name":"EN10MB"},"#,
        r#""verdict":{"action":"drop"}}"#,
        "\n",
    ]
    .concat();
    assert_eq!(line(head, Body::Alert(Box::new(alert)), &settings), expected);
}

#[test]
fn the_flow_in_an_alert_from_the_server_is_still_the_clients() {
    let mut alert =
        Alert::of(&rule("alert tcp any any -> any any (msg:\"m\"; sid:1;)"), AlertAction::Allowed);
    alert.side = Some(Side::ToClient);
    alert.flow = Some(summary());
    let line = line(head(), Body::Alert(Box::new(alert)), &Settings::default());
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["src_ip"], "192.168.2.14");
    assert_eq!(json["flow"]["src_ip"], "209.53.113.5");
    assert_eq!(json["flow"]["dest_port"], 50096);
    assert_eq!(json["alert"]["category"], "");
    assert_eq!(json["alert"]["severity"], 3);
}

#[test]
fn nothing_of_an_alerts_surroundings_is_said_when_metadata_is_off() {
    let mut settings = Settings::default();
    if let Some(alert) = &mut settings.alert {
        alert.metadata = false;
    }
    assert!(said(&asked(), Place::Alert, &settings).is_none());
    let rule = rule(
        "alert tcp any any -> any any (msg:\"m\"; metadata:a b; sid:1; classtype:misc-activity;)",
    );
    let mut alert = Alert::of(&rule, AlertAction::Allowed);
    alert.flow = Some(summary());
    let line = line(head(), Body::Alert(Box::new(alert)), &settings);
    assert!(!line.contains("\"flow\"") && !line.contains("\"metadata\""), "{line}");
}

#[test]
fn a_rejected_packets_verdict_says_who_is_told_and_how() {
    let mut settings = Settings::default();
    if let Some(drop) = &mut settings.drop {
        drop.verdict = true;
    }
    let mut record = DropRecord::of(b"", b"", 6, DropReason::Rules);
    record.verdict =
        Some(Verdict::Reject { to: RejectTo::Both, by: Rejects::TcpReset, is_dropped: true });
    let line = line(head(), Body::Drop(Box::new(record)), &settings);
    let expected = r#""verdict":{"action":"drop","reject-target":"both","reject":["tcp-reset"]}"#;
    assert!(line.contains(expected), "{line}");
}

#[test]
fn a_dropped_packet_has_its_headers_its_reason_and_its_rule() {
    let network =
        b"\x45\x10\x00\x2c\x00\x01\x00\x00\x40\x06\x74\xc6\x01\x01\x01\x01\x02\x02\x02\x02";
    let upper = b"\x30\x39\x1f\x90\x00\x00\x00\x02\x00\x00\x03\xe9\x51\x12\x10\x00\xaf\x83\x00\x07";
    let rule = rule("drop tcp any any -> any any (msg:\"m\"; sid:9;)");
    let mut record = DropRecord::of(network, upper, 6, DropReason::FlowDrop);
    record.side = Some(Side::ToClient);
    record.rule = Some((rule, AlertAction::Blocked));
    let line = line(head(), Body::Drop(Box::new(record)), &Settings::default());
    let expected = [
        r#""direction":"to_client","drop":{"len":44,"tos":16,"ttl":64,"ipid":1,"tcpseq":2,"tcpack":1001,"#,
        r#""tcpwin":4096,"syn":true,"ack":true,"psh":false,"rst":false,"urg":false,"fin":false,"#,
        r#""tcpres":1,"tcpurgp":7,"reason":"flow drop"},"alert":{"action":"blocked","gid":1,"#,
        r#""signature_id":9,"rev":0,"signature":"m","category":"","severity":3}}"#,
    ]
    .concat();
    assert!(line.trim_end().ends_with(&expected), "{line}");
}

#[test]
fn headers_that_are_cut_are_left_out_of_a_drop_record() {
    let cases: [(&[u8], &[u8], u8, &str); 4] = [
        (b"\x45\x00\x00", b"\x00", 6, r#""drop":{"reason":"rules"}"#),
        (
            b"\x6a\xb1\x23\x45\x00\x08\x11\x40",
            b"\x00\x01\x00\x02\x00\x08\x00\x00",
            17,
            r#""drop":{"len":8,"tc":171,"hoplimit":64,"flowlbl":74565,"udplen":8,"reason":"rules"}"#,
        ),
        (b"", b"\x08\x00\x00\x00\x00\x05\x00\x06", 1, r#""drop":{"icmp_id":5,"icmp_seq":6,"#),
        (b"", b"anything at all", 132, r#""drop":{"reason":"rules"}"#),
    ];
    for (network, upper, protocol, expected) in cases {
        let record = DropRecord::of(network, upper, protocol, DropReason::Rules);
        let line = line(head(), Body::Drop(Box::new(record)), &Settings::default());
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_flow_has_no_packet_and_its_connection_last() {
    let tcp = TcpRecord {
        flags: 0x1b,
        flags_to_server: 0x1b,
        flags_to_client: 0x12,
        state: Some(TcpState::CloseWait),
        has_gaps: [false, true],
        max_regions: [1, 2],
        urgent: [0, 3],
    };
    let flow = FlowRecord {
        apps: AppNames {
            protocol: Some(Protocol::Http2),
            original: Some(Protocol::Http),
            ..AppNames::default()
        },
        summary: summary(),
        end: Time(1_491_603_886_100_000_000),
        state: FlowState::Established,
        reason: FlowEnd::Shutdown,
        alerted: true,
        action: Some(FlowAction::Drop),
        transactions: 2,
        response_icmp: None,
        tcp: Some(tcp),
    };
    let expected = [
        r#"{"timestamp":"2017-04-07T22:24:37.251547+0000","flow_id":586497171462735,"event_type":"flow","#,
        r#""src_ip":"192.168.2.14","src_port":50096,"dest_ip":"209.53.113.5","dest_port":80,"ip_v":4,"#,
        r#""proto":"TCP","app_proto":"http2","app_proto_orig":"http","flow":{"pkts_toserver":3,"#,
        r#""pkts_toclient":2,"bytes_toserver":300,"bytes_toclient":200,"#,
        r#""start":"2017-04-07T22:24:36.000000+0000","end":"2017-04-07T22:24:46.100000+0000","age":10,"#,
        r#""state":"established","reason":"shutdown","alerted":true,"action":"drop","tx_cnt":2},"#,
        r#""tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"12","syn":true,"fin":true,"#,
        r#""psh":true,"ack":true,"state":"close_wait","tc_gap":true,"ts_max_regions":1,"#,
        r#""tc_max_regions":2,"tc_urgent_oob_data":3}}"#,
        "\n",
    ]
    .concat();
    assert_eq!(line(head(), Body::Flow(Box::new(flow)), &Settings::default()), expected);
}

#[test]
fn an_icmp_flow_has_types_instead_of_ports() {
    let flow = FlowRecord {
        apps: AppNames::default(),
        summary: summary(),
        end: summary().start,
        state: FlowState::New,
        reason: FlowEnd::Timeout,
        alerted: false,
        action: None,
        transactions: 0,
        response_icmp: Some((0, 0)),
        tcp: None,
    };
    let src: IpAddr = "2001:db8:85a3::8a2e:370:7334".parse().unwrap();
    let head = Head {
        src: Some(src),
        dst: Some(src),
        sport: None,
        dport: None,
        protocol: Some(58),
        icmp: Some((128, 0)),
        ..head()
    };
    let line = line(head, Body::Flow(Box::new(flow)), &Settings::default());
    let expected = [
        r#""src_ip":"2001:0db8:85a3:0000:0000:8a2e:0370:7334","#,
        r#""dest_ip":"2001:0db8:85a3:0000:0000:8a2e:0370:7334","ip_v":6,"proto":"IPv6-ICMP","#,
        r#""icmp_type":128,"icmp_code":0,"response_icmp_type":0,"response_icmp_code":0,"flow":"#,
    ]
    .concat();
    assert!(line.contains(&expected), "{line}");
}

#[test]
fn an_http_record_is_short_unless_it_is_extended() {
    let mut settings = Settings::default();
    let http = said(&asked(), Place::Record, &settings).unwrap().into_body();
    assert!(line(head(), http, &settings).contains(HTTP));
    settings.http = Some(HttpSettings { extended: false, dump_headers: HeaderDump::Response });
    let http = said(&asked(), Place::Record, &settings).unwrap().into_body();
    let line = line(head(), http, &settings);
    let expected = concat!(
        r#""size":9},"response_headers":[{"name":"Content-Type","value":"text/html; charset=x"},"#,
        r#"{"name":"Location","value":"/c"},{"name":"Content-Range","value":"bytes 0-4/9"},"#,
        r#"{"name":"Content-Length","value":"5"}]}}"#
    );
    assert!(line.trim_end().ends_with(expected), "{line}");
}

#[test]
fn bodies_are_in_alerts_that_want_them() {
    let mut settings = Settings::default();
    if let Some(alert) = &mut settings.alert {
        (alert.http_body, alert.http_body_printable) = (true, true);
    }
    let rule = rule("alert http any any -> any any (msg:\"m\"; sid:1;)");
    let mut alert = Alert::of(&rule, AlertAction::Allowed);
    alert.application = said(&asked(), Place::Alert, &settings);
    let line = line(head(), Body::Alert(Box::new(alert)), &settings);
    let expected = r#""http_response_body_printable":"hello","http_response_body":"aGVsbG8="}"#;
    assert!(line.contains(expected), "{line}");
}

/// A response about `example.com`: an alias, an address, and a text of two strings.
const ANSWER: &[u8] = b"\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x01\
    \x07example\x03com\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03www\xc0\x0c\
    \xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x5d\xb8\xd8\x22\
    \xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x05\x01a\x02b\xff\
    \x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";

fn asked_name(bytes: &[u8], side: Side) -> App {
    let mut app = App::udp(Ports { client: 5000, server: 53 });
    app.feed(side, Input::Bytes(bytes), &Limits::default());
    app
}

#[test]
fn a_dns_message_has_its_records_by_themselves_and_by_type() {
    let settings = Settings::default();
    let app = asked_name(ANSWER, Side::ToClient);
    let body = said(&app, Place::Record, &settings).unwrap().into_body();
    let head = Head { transaction: Some(0), ..head() };
    let line = line(head, body, &settings);
    let expected = [
        r#""pkt_src":"wire/pcap","dns":{"version":3,"type":"response","tx_id":0,"id":4660,"#,
        r#""flags":"8180","qr":true,"rd":true,"ra":true,"opcode":0,"rcode":"NOERROR","#,
        r#""queries":[{"rrname":"example.com","rrtype":"A"}],"answers":["#,
        r#"{"rrname":"example.com","rrtype":"CNAME","ttl":60,"rdata":"www.example.com"},"#,
        r#"{"rrname":"www.example.com","rrtype":"A","ttl":60,"rdata":"93.184.216.34"},"#,
        r#"{"rrname":"example.com","rrtype":"TXT","ttl":60,"rdata":"a"},"#,
        r#"{"rrname":"example.com","rrtype":"TXT","ttl":60,"rdata":"b\\xff"}],"#,
        r#""grouped":{"CNAME":["www.example.com"],"A":["93.184.216.34"],"TXT":["a","b\\xff"]}}}"#,
    ]
    .concat();
    assert!(line.trim_end().ends_with(&expected), "{line}");
}

#[test]
fn dns_in_the_old_form_has_a_record_a_query() {
    let dns = DnsSettings { version: DnsVersion::V2, grouped: false, ..DnsSettings::default() };
    let settings = Settings { dns: Some(dns), ..Settings::default() };
    let query = b"\x00\x01\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\x01b\x00\x00\x1c\x00\x01";
    let app = asked_name(query, Side::ToServer);
    let lines = line(head(), said(&app, Place::Record, &settings).unwrap().into_body(), &settings);
    let ends: Vec<_> = lines.lines().map(|line| line.split("\"dns\":").nth(1).unwrap()).collect();
    let first =
        r#"{"version":2,"type":"query","id":1,"rrname":"a","rrtype":"A","tx_id":0,"opcode":0}}"#;
    let second =
        r#"{"version":2,"type":"query","id":1,"rrname":"b","rrtype":"AAAA","tx_id":0,"opcode":0}}"#;
    assert_eq!(ends, [first, second]);
    let app = asked_name(ANSWER, Side::ToClient);
    let lines = line(head(), said(&app, Place::Record, &settings).unwrap().into_body(), &settings);
    assert!(lines.contains(r#""version":2,"type":"answer","id":4660,"flags":"8180","qr":true"#));
    assert!(!lines.contains("grouped") && lines.contains("answers"));
}

#[test]
fn only_the_dns_messages_that_are_wanted_have_a_record() {
    let mut settings = Settings::default();
    let app = asked_name(ANSWER, Side::ToClient);
    settings.dns = Some(DnsSettings { types: Some(vec![28]), ..DnsSettings::default() });
    assert!(said(&app, Place::Record, &settings).is_none());
    settings.dns = Some(DnsSettings { types: Some(vec![1]), ..DnsSettings::default() });
    assert!(said(&app, Place::Record, &settings).is_some());
    settings.dns = Some(DnsSettings { responses: false, ..DnsSettings::default() });
    assert!(said(&app, Place::Record, &settings).is_none());
    settings.dns = None;
    assert!(said(&app, Place::Record, &settings).is_none());
    assert!(said(&app, Place::Alert, &settings).is_some());
}

#[test]
fn an_ssh_record_has_those_ends_that_have_spoken() {
    let settings = Settings::default();
    let app = talk(b"SSH-2.0-OpenSSH_7.4 c\r\n", b"");
    let body = said(&app, Place::Record, &settings).unwrap().into_body();
    let expected = r#""ssh":{"client":{"proto_version":"2.0","software_version":"OpenSSH_7.4"}}}"#;
    let line = line(head(), body, &settings);
    assert!(line.trim_end().ends_with(expected), "{line}");
}

#[test]
fn a_tls_record_has_the_fields_that_are_asked_for() {
    // A hello with a name and one protocol to speak.
    let hello = b"\x16\x03\x01\x00\x50\x01\x00\x00\x4c\x03\x03AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x00\x00\x02\x13\x01\
        \x01\x00\x00\x21\x00\x00\x00\x10\x00\x0e\x00\x00\x0bexample.com\x00\x10\x00\x05\x00\x03\x02h2\x00\x17\x00\x00";
    let app = talk(hello, b"");
    let mut settings = Settings::default();
    let body = || said(&app, Place::Record, &Settings::default()).unwrap().into_body();
    let extended = line(head(), body(), &settings);
    assert!(extended.contains(r#""tls":{"sni":"example.com","version":"TLS 1.2","ja3":{"hash":"#));
    assert!(extended.contains(r#""client_alpns":["h2"]"#), "{extended}");
    let custom = Some(vec![TlsField::Version, TlsField::Sni]);
    settings.tls = Some(TlsSettings { custom, ..TlsSettings::default() });
    let custom = line(head(), body(), &settings);
    assert!(custom.contains(r#""tls":{"version":"TLS 1.2","sni":"example.com"}}"#), "{custom}");
    settings.tls = Some(TlsSettings::default());
    assert!(line(head(), body(), &settings).contains(r#""tls":{}}"#));
}

#[test]
fn an_anomaly_says_which_layer_remarked_it() {
    let settings = Settings::default();
    let cases = [
        (
            Anomaly::of_stream(StreamEvent::PktInvalidAck),
            r#""anomaly":{"type":"stream","event":"stream.pkt_invalid_ack"}}"#,
        ),
        (
            Anomaly::of_headers("ipv4.trunc_pkt"),
            r#""anomaly":{"type":"decode","event":"decoder.ipv4.trunc_pkt"}}"#,
        ),
        (
            Anomaly::of_app(AppEvent::ssh("invalid_banner"), Some(Protocol::Ssh)),
            r#""anomaly":{"app_proto":"ssh","type":"applayer","event":"invalid_banner","layer":"proto_parser"}}"#,
        ),
        (
            Anomaly::of_app(AppEvent::detection("applayer_mismatch"), Some(Protocol::Http)),
            r#""anomaly":{"app_proto":"http","type":"applayer","event":"applayer_mismatch","layer":"proto_detect"}}"#,
        ),
    ];
    for (anomaly, expected) in cases {
        let line = line(head(), Body::Anomaly(anomaly), &settings);
        assert!(line.trim_end().ends_with(expected), "{line}");
    }
}

#[test]
fn a_stats_record_has_a_time_and_nothing_of_packets() {
    let stats = Stats { uptime: 1, counters: vec![("eve.shed".into(), 2)] };
    let line = line(head(), Body::Stats(Box::new(stats)), &Settings::default());
    let expected = concat!(
        r#"{"timestamp":"2017-04-07T22:24:37.251547+0000","event_type":"stats","#,
        r#""stats":{"uptime":1,"eve":{"shed":2}}}"#,
        "\n"
    );
    assert_eq!(line, expected);
}

#[test]
fn what_a_queue_counts_grows_with_what_a_record_holds() {
    let settings = Settings::default();
    let size = |url: usize| {
        let app = talk(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(url)).as_bytes(), b"");
        let body = said(&app, Place::Record, &settings).unwrap().into_body();
        Record { head: head(), body }.bytes()
    };
    assert_eq!(size(1100) - size(100), 1000);
}

fn any_head() -> impl Strategy<Value = Head> {
    let ends = (
        any::<Option<IpAddr>>(),
        any::<Option<IpAddr>>(),
        any::<Option<u16>>(),
        any::<Option<u16>>(),
    );
    let rest = (
        any::<Option<u8>>(),
        any::<Option<(u8, u8)>>(),
        any::<[Option<u16>; 3]>(),
        any::<Option<u64>>(),
    );
    let names =
        (".*", prop::collection::vec(".*".prop_map(String::into_boxed_str), 0..4), any::<u64>());
    (any::<u64>(), ends, rest, names).prop_map(|(time, ends, rest, names)| Head {
        flow_id: rest.3,
        pcap_cnt: rest.3,
        in_iface: Some(names.0.as_str().into()),
        vlan: rest.2,
        src: ends.0,
        dst: ends.1,
        sport: ends.2,
        dport: ends.3,
        protocol: rest.0,
        icmp: rest.1,
        transaction: rest.3,
        variables: Some(Arc::new(Variables {
            numbers: names.1.iter().map(|name| (name.clone(), names.2)).collect(),
            bits: names.1,
        })),
        ..Head::at(Time(time))
    })
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (any::<[bool; 10]>(), any::<Option<u16>>()).prop_map(|(on, community_id)| {
        let mut settings = Settings { community_id, metadata: on[0], ..Settings::default() };
        let alert = AlertSettings {
            metadata: true,
            payload: on[1],
            payload_printable: on[2],
            payload_length: on[3],
            packet: on[4],
            http_body: on[5],
            http_body_printable: on[6],
            verdict: on[7],
            ..AlertSettings::default()
        };
        settings.alert = Some(alert);
        let dump_headers = if on[8] { HeaderDump::Both } else { HeaderDump::None };
        settings.http = Some(HttpSettings { extended: on[9], dump_headers });
        let version = if on[1] { DnsVersion::V2 } else { DnsVersion::V3 };
        settings.dns = Some(DnsSettings { version, grouped: on[2], ..DnsSettings::default() });
        settings
    })
}

/// What bytes look like that parsers go on with.
fn any_talk() -> impl Strategy<Value = App> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        (bytes(), bytes(), bytes()).prop_map(|(uri, header, body)| {
            let request = [
                b"GET /",
                &uri[..],
                b" HTTP/1.1\r\nHost: ",
                &header,
                b"\r\nReferer: ",
                &uri,
                b"\r\n\r\n",
            ];
            let response = [
                b"HTTP/1.1 ",
                &header[..],
                b" x\r\nContent-Type: ",
                &uri,
                b"\r\nX: ",
                &header,
                b"\r\n\r\n",
                &body,
            ];
            talk(&request.concat(), &response.concat())
        }),
        bytes().prop_map(|bytes| {
            let message = [&ANSWER[..ANSWER.len() - 11], &bytes].concat();
            asked_name(&message, Side::ToClient)
        }),
        (0..ANSWER.len(), any::<u8>()).prop_map(|(at, byte)| {
            let mut message = ANSWER.to_vec();
            message[at] = byte;
            asked_name(&message, Side::ToClient)
        }),
        bytes().prop_map(|bytes| talk(&[b"SSH-2.0-", &bytes[..], b"\r\n"].concat(), b"")),
    ]
}

proptest! {
    #[test]
    fn any_record_is_valid_json_in_lines(
        head in any_head(),
        settings in any_settings(),
        app in any_talk(),
        (network, upper, payload) in (
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::vec(any::<u8>(), 0..30),
            prop::collection::vec(any::<u8>(), 0..100),
        ),
    ) {
        let rule = rule("alert ip any any -> any any (msg:\"m\"; metadata:a b; target:src_ip; sid:1;)");
        let mut records = Vec::new();
        for tx in app.transactions().iter() {
            let mut alert = Alert::of(&rule, AlertAction::Allowed);
            alert.application = Application::of(tx, Place::Alert, &settings);
            alert.payload = Some(Payload { bytes: payload.clone().into(), from: PayloadFrom::Packet });
            alert.packet = Some(network.clone().into());
            alert.verdict = Some(Verdict::Alert);
            alert.flow = Some(summary());
            records.push(Body::Alert(Box::new(alert)));
            records.extend(Application::of(tx, Place::Record, &settings).map(Application::into_body));
        }
        let protocol = head.protocol.unwrap_or(6);
        records.push(Body::Drop(Box::new(DropRecord::of(&network, &upper, protocol, DropReason::Rules))));
        records.push(Body::Packet(Box::new(TaggedPacket { frame: network.into() })));
        for body in records {
            let kind = body.kind();
            let record = Record { head: head.clone(), body };
            prop_assert!(record.bytes() >= size_of::<Record>());
            let mut out = Vec::new();
            record.write(&settings, &mut out);
            prop_assert_eq!(out.last(), Some(&b'\n'));
            for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let json: Value = serde_json::from_slice(line).unwrap();
                prop_assert_eq!(&json["event_type"], kind.name());
                prop_assert!(json["timestamp"].as_str().is_some_and(|time| time.len() == 31));
            }
        }
    }
}
