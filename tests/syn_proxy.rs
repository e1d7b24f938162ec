//! Handshakes with SYN cookies segment by segment, by replays, which make the same cookies each time.

mod testkit;

use std::io::Write;
use std::process::Command;

use nfv_core::packet::checksum::Sum;
use nfv_core::packet::tcp_build::SynOptions;
use nfv_core::packet::{Headers, parse};
use tempfile::NamedTempFile;
use testkit::NFV;
use testkit::packets::write_capture;
use testkit::replayed::Replayed;

const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const ISN: u32 = 1000;
const SERVER_ISN: u32 = 5_000_000;
const SECOND: u64 = 1_000_000_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn chain(rules: &str, cookies: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let text = format!(
        "ports: {{ lan: net_null0, wan: net_null1 }}\n\
         functions: {{ edge: {{ type: firewall, stateful: true, {rules}, syn-cookies: {cookies} }} }}\n\
         chains: {{ outbound: {{ from: lan, through: [ edge ], to: wan }} }}\n"
    );
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn all() -> NamedTempFile {
    let cookies = "{ half-open: 0, timestamps: true, sack: true, window-scale: 7 }";
    chain("rules: [ { allow: any } ]", cookies)
}

/// A segment, as it is sent or seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tcp {
    from: u8,
    sport: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Tcp {
    fn of(from: u8, flags: u8, seq: u32, ack: u32) -> Self {
        Self { from, sport: 40_000, flags, seq, ack, window: 502, ..Self::default() }
    }

    fn client(flags: u8, seq: u32, ack: u32) -> Self {
        Self::of(CLIENT, flags, seq, ack)
    }

    fn server(flags: u8, seq: u32, ack: u32) -> Self {
        Self::of(SERVER, flags, seq, ack)
    }

    fn with(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }

    fn saying(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    fn frame(&self) -> Vec<u8> {
        let to = CLIENT + SERVER - self.from;
        let (sport, dport) = if self.from == CLIENT { (self.sport, 80) } else { (80, self.sport) };
        let mut tcp = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([(5 + self.options.len() / 4) as u8 * 16, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let sum = Sum::of(&tcp).plus(pseudo(self.from, to, tcp.len())).checksum();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, self.from, 8, 0];
        frame.extend(ip(self.from, to, 6, &tcp));
        frame
    }

    /// Of a frame, whose checksums must be right.
    fn read(frame: &[u8]) -> Self {
        let h = headers(frame);
        let tcp = &frame[usize::from(h.l4)..usize::from(h.l3_end)];
        let (from, to) = (h.src.v4()[3], h.dst.v4()[3]);
        assert!(Sum::of(tcp).plus(pseudo(from, to, tcp.len())).is_right(), "{frame:x?}");
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        let end = usize::from(tcp[12] >> 4) * 4;
        Self {
            from,
            sport: if from == CLIENT { h.sport } else { h.dport },
            flags: tcp[13],
            seq: word(4),
            ack: word(8),
            window: u16::from_be_bytes([tcp[14], tcp[15]]),
            options: tcp[20..end].to_vec(),
            payload: tcp[end..].to_vec(),
        }
    }

    fn said(&self) -> SynOptions {
        SynOptions::read(&self.options)
    }
}

fn headers(frame: &[u8]) -> Headers {
    let h = parse(frame, frame.len() as u32).unwrap();
    assert!(Sum::of(&frame[14..34]).is_right(), "{frame:x?}");
    h
}

fn pseudo(from: u8, to: u8, length: usize) -> Sum {
    let [from, to] = [from, to].map(|last| [10, 0, 0, last].into());
    Sum::of_pseudo_header(from, to, 6, length as u32)
}

fn ip(from: u8, to: u8, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + upper.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    let sum = Sum::of(&ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&ip, upper].concat()
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// Linux's: MSS, SACK, timestamps, window scale 7.
fn syn_options(value: u32, echo: u32) -> Vec<u8> {
    let [v, e] = [value, echo].map(u32::to_be_bytes);
    [&[2, 4, 5, 0xb4, 4, 2, 8, 10][..], &v, &e, &[1, 3, 3, 7]].concat()
}

fn syn() -> Tcp {
    Tcp::client(SYN, ISN, 0).with(&syn_options(100, 0))
}

/// Replays frames, each in its second: those from the client come from lan.
fn replay(chain: &NamedTempFile, frames: &[(u64, Vec<u8>)]) -> Replayed {
    let from = |who: u8| {
        let own = frames.iter().filter(move |(_, frame)| frame[11] == who);
        own.map(|(at, frame)| (at * SECOND, frame.clone()))
    };
    let folder = tempfile::tempdir().unwrap();
    let wan = folder.path().join("wan.pcap");
    write_capture(&wan, from(SERVER));
    let more = ["--in", &format!("wan={}", wan.display())];
    let chain = chain.path().to_str().unwrap();
    Replayed::with(chain, from(CLIENT), &more, &[]).succeeded()
}

fn sent(replayed: &Replayed, port: &str) -> Vec<Tcp> {
    replayed.sent(port).iter().map(|frame| Tcp::read(frame)).collect()
}

/// The SYN-ACK that a SYN gets in the first second.
fn cookie(chain: &NamedTempFile, syn: &Tcp) -> Tcp {
    let replayed = replay(chain, &[(1, syn.frame())]);
    let [syn_ack] = sent(&replayed, "lan").try_into().unwrap();
    syn_ack
}

/// The SYN, its cookie, the ACK, and the server's SYN-ACK, in the first three seconds.
fn opened(chain: &NamedTempFile) -> (Tcp, Vec<(u64, Vec<u8>)>) {
    let c = cookie(chain, &syn());
    let ours = c.said().timestamps.unwrap().0;
    let ack = Tcp::client(ACK, ISN + 1, c.seq + 1).with(&timestamps(110, ours));
    let syn_ack = Tcp::server(SYN | ACK, SERVER_ISN, ISN + 1).with(&syn_options(9000, 110));
    let syn_ack = Tcp { window: 65_160, ..syn_ack };
    (c, vec![(1, syn().frame()), (2, ack.frame()), (3, syn_ack.frame())])
}

#[test]
fn a_handshake_is_made_with_either_end_and_their_numbers_are_shifted() {
    let chain = all();
    let (c, mut story) = opened(&chain);
    assert_eq!((c.flags, c.ack, c.window), (SYN | ACK, ISN + 1, 0), "its window is closed");
    let said = c.said();
    assert_eq!((said.mss, said.window_scale, said.sack), (Some(1460), Some(7), true));
    let started = replay(&chain, &story);
    let [to_server, ack] = sent(&started, "wan").try_into().unwrap();
    let expected = Tcp { window: 64_256, ..syn() }.with(&syn_options(110, 0));
    assert_eq!(to_server, expected, "the SYN that the client had sent");
    let expected = Tcp::client(ACK, ISN + 1, SERVER_ISN + 1).with(&timestamps(110, 9000));
    assert_eq!(Tcp { window: 0, ..ack }, Tcp { window: 0, ..expected });
    let [_, open] = sent(&started, "lan").try_into().unwrap();
    let (ours, echo) = open.said().timestamps.unwrap();
    assert_eq!((open.flags, open.seq, open.ack), (ACK, c.seq + 1, ISN + 1));
    assert_eq!((open.window, echo), (65_160 >> 7, 110), "in the scale that the client was told");
    assert!(ours > c.said().timestamps.unwrap().0, "our clock goes on");

    let first = c.seq + 1;
    let ask = Tcp::client(ACK, ISN + 1, first).with(&timestamps(120, ours)).saying(b"GET");
    let answer = Tcp::server(ACK, SERVER_ISN + 1, ISN + 4).with(&timestamps(9010, 120));
    // The byte before is missing.
    let later = Tcp::server(ACK, SERVER_ISN + 7, ISN + 4).with(&timestamps(9010, 120));
    let edges = [(first + 6).to_be_bytes(), (first + 9).to_be_bytes()].concat();
    let missing = Tcp::client(ACK, ISN + 4, first + 5).with(&[&[1, 1, 5, 10][..], &edges].concat());
    story.extend([
        (4, ask.frame()),
        (5, answer.clone().saying(b"hello").frame()),
        (6, later.saying(b"abc").frame()),
        (7, missing.frame()),
    ]);
    let done = replay(&chain, &story);
    let asked = &sent(&done, "wan")[2];
    assert_eq!((asked.seq, asked.ack, &asked.payload[..]), (ISN + 1, SERVER_ISN + 1, &b"GET"[..]));
    assert_eq!(asked.said().timestamps, Some((120, 9000)), "the server's own clock comes back");
    let hello = &sent(&done, "lan")[2];
    assert_eq!((hello.seq, hello.ack, &hello.payload[..]), (first, ISN + 4, &b"hello"[..]));
    assert_eq!(hello.said().timestamps, Some((ours + 10, 120)));
    assert_eq!(sent(&done, "lan")[3].seq, first + 6);
    let told = &sent(&done, "wan")[3];
    let edges = [(SERVER_ISN + 7).to_be_bytes(), (SERVER_ISN + 10).to_be_bytes()].concat();
    assert_eq!((told.ack, &told.options[4..]), (SERVER_ISN + 6, &edges[..]));
    assert_eq!(done.counter("edge", "cookies_unlike"), 0);
    assert_eq!(done.report["dropped_packets"], 0, "{}", done.report);
}

#[test]
fn a_syn_ack_that_is_sent_again_is_answered_by_the_client() {
    let chain = all();
    let (c, mut story) = opened(&chain);
    story.push((4, story[2].1.clone()));
    let again = &sent(&replay(&chain, &story), "lan")[2];
    assert_eq!((again.flags, again.seq, again.ack), (SYN | ACK, c.seq, ISN + 1));
}

#[test]
fn a_server_that_is_not_as_was_said_is_counted() {
    let chain = all();
    let (_, mut story) = opened(&chain);
    let mut options = syn_options(9000, 110);
    options[19] = 3;
    story[2].1 = Tcp::server(SYN | ACK, SERVER_ISN, ISN + 1).with(&options).frame();
    let replayed = replay(&chain, &story);
    assert_eq!(replayed.counter("edge", "cookies_unlike"), 1);
    assert_eq!((replayed.sent("lan").len(), replayed.sent("wan").len()), (2, 2), "it goes on");
}

#[test]
fn an_ack_without_a_right_cookie_opens_nothing() {
    let chain = all();
    let c = cookie(&chain, &syn());
    let ack = Tcp::client(ACK, ISN + 1, c.seq + 1);
    let wrong = [
        Tcp { ack: c.seq + 2, ..ack.clone() },
        Tcp { seq: ISN + 2, ..ack.clone() },
        Tcp { sport: 40_001, ..ack.clone() },
    ];
    for (i, wrong) in wrong.iter().enumerate() {
        let replayed = replay(&chain, &[(1, syn().frame()), (2, wrong.frame())]);
        assert_eq!(replayed.dropped("flow/tcp_not_a_syn"), 1, "{i}: {}", replayed.report);
        assert!(replayed.sent("wan").is_empty(), "{i}");
    }
    let late = replay(&chain, &[(1, syn().frame()), (300, ack.frame())]);
    assert_eq!(late.dropped("flow/tcp_not_a_syn"), 1, "{}", late.report);
    let right = replay(&chain, &[(1, syn().frame()), (100, ack.frame())]);
    assert_eq!(right.sent("wan").len(), 1, "the control: {}", right.report);
}

#[test]
fn before_the_server_has_answered_the_client_can_only_have_it_asked_again() {
    let chain = all();
    let (c, story) = opened(&chain);
    let ours = c.said().timestamps.unwrap().0;
    let client = |flags, seq| Tcp::client(flags, seq, c.seq + 1).with(&timestamps(120, ours));
    let mut early = story[..2].to_vec();
    early.extend([
        // Linux asks whether the window is open by the byte before.
        (3, client(ACK, ISN).frame()),
        (4, client(ACK, ISN + 1).saying(b"impatient").frame()),
        (5, client(FIN | ACK, ISN + 1).frame()),
        (6, syn().frame()),
        (7, Tcp::server(ACK, 77, 88).frame()),
    ]);
    let replayed = replay(&chain, &early);
    let syns = sent(&replayed, "wan");
    assert_eq!(syns.len(), 3);
    assert!(syns.iter().all(|s| (s.flags, s.seq, s.payload.len()) == (SYN, ISN, 0)), "{syns:?}");
    assert_eq!(replayed.dropped("flow/tcp_not_open_yet"), 2, "{}", replayed.report);
    assert_eq!(replayed.dropped("flow/tcp_unexpected_syn"), 1, "{}", replayed.report);
    assert_eq!(replayed.sent("lan").len(), 1, "the cookie, and nothing else");

    // Who begins anew from the same port gets another cookie.
    let anew = Tcp { seq: ISN + 70_000, ..syn() };
    early.truncate(2);
    early.push((3, anew.frame()));
    let [_, again] = sent(&replay(&chain, &early), "lan").try_into().unwrap();
    assert_eq!((again.flags, again.ack), (SYN | ACK, ISN + 70_001));
    assert_ne!(again.seq, c.seq);
}

#[test]
fn a_server_that_refuses_has_its_reset_where_the_client_expects_it() {
    let chain = all();
    let (c, story) = opened(&chain);
    let mut refused = story[..2].to_vec();
    refused.push((3, Tcp::server(RST | ACK, 0, ISN + 1).frame()));
    let [_, reset] = sent(&replay(&chain, &refused), "lan").try_into().unwrap();
    assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, c.seq + 1, ISN + 1));
}

#[test]
fn an_error_about_a_packet_of_the_server_quotes_its_own_number() {
    let chain = all();
    let (c, mut story) = opened(&chain);
    let quoted = Tcp::server(ACK, c.seq + 1, ISN + 1).saying(&[0; 8]).frame();
    // Fragmentation needed, from a router beside the client.
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0];
    icmp.extend(&quoted[14..14 + 28]);
    let sum = Sum::of(&icmp).checksum();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut error = vec![2, 0, 0, 0, 0, SERVER, 2, 0, 0, 0, 0, CLIENT, 8, 0];
    error.extend(ip(9, SERVER, 1, &icmp));
    story.push((4, error));
    let replayed = replay(&chain, &story);
    let frame = replayed.sent("wan").pop().unwrap();
    let h = headers(&frame);
    let icmp = &frame[usize::from(h.l4)..usize::from(h.l3_end)];
    assert!(Sum::of(icmp).is_right(), "{icmp:x?}");
    assert_eq!(icmp[8 + 20 + 4..][..4], (SERVER_ISN + 1).to_be_bytes());
}

#[test]
fn syns_pass_until_as_many_are_half_open_as_may_be() {
    let chain = chain("rules: [ { allow: any } ]", "3");
    let syns: Vec<_> = (1..=6).map(|i| (i, Tcp { sport: i as u16, ..syn() }.frame())).collect();
    let replayed = replay(&chain, &syns);
    let passed: Vec<u16> = sent(&replayed, "wan").iter().map(|s| s.sport).collect();
    assert_eq!(passed, [1, 2, 3]);
    let answered: Vec<u16> = sent(&replayed, "lan").iter().map(|s| s.sport).collect();
    assert_eq!(answered, [4, 5, 6]);
    let options = sent(&replayed, "lan")[0].options.clone();
    assert_eq!(options, [2, 4, 5, 0xb4], "more than that is not known to be right");
    assert_eq!(replayed.counter("edge", "cookies_sent"), 3);

    // One that opens, one that is refused: two of three are not three quarters, so SYNs pass again.
    let mut story = syns[..4].to_vec();
    let of = |i: u16, tcp: Tcp| Tcp { sport: i, ..tcp }.frame();
    story.extend([
        (7, of(1, Tcp::server(SYN | ACK, 9, ISN + 1))),
        (8, of(1, Tcp::client(ACK, ISN + 1, 10))),
        (9, of(2, Tcp::server(RST | ACK, 0, ISN + 1))),
        (10, of(9, syn())),
    ]);
    let replayed = replay(&chain, &story);
    assert_eq!(sent(&replayed, "wan").last().map(|s| (s.sport, s.flags)), Some((9, SYN)));
}

#[test]
fn a_syn_that_the_rules_deny_gets_no_cookie_and_a_flow_is_in_the_log_once() {
    let log = NamedTempFile::new().unwrap();
    let rules = format!(
        "log-file: '{}', rules: [ {{ deny: tcp, sport: 7, log: true }}, {{ allow: any, log: true }} ]",
        log.path().display()
    );
    let chain = chain(&rules, "0");
    let c = cookie(&chain, &syn());
    std::fs::write(log.path(), "").unwrap();
    let denied = Tcp { sport: 7, ..syn() };
    let ack = Tcp::client(ACK, ISN + 1, c.seq + 1);
    let replayed = replay(&chain, &[(1, syn().frame()), (2, ack.frame()), (3, denied.frame())]);
    assert_eq!(replayed.dropped("edge/rule_denied"), 1, "{}", replayed.report);
    assert_eq!(replayed.counter("edge", "cookies_sent"), 1);
    let text = std::fs::read_to_string(log.path()).unwrap();
    let verdicts: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<&str> = verdicts.iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "deny"], "{text}");
}

#[test]
fn what_cannot_go_with_cookies_is_a_mistake_of_the_chain_file() {
    let cases = [
        ("{ half-open: 9, sack: true }", "`sack` without `timestamps: true`"),
        ("{ window-scale: 7 }", "`window-scale` without `timestamps: true`"),
        ("9, stateful: false", "`syn-cookies` without `stateful: true`"),
        (
            "9 }, web: { type: lb, virtual: 192.0.2.1, mode: dsr, port: 80, \
             backends: [ { address: 192.0.2.2, mac: '02:00:00:00:00:02' } ]",
            "the answers of `web` go another way",
        ),
    ];
    for (cookies, expected) in cases {
        let mut file = NamedTempFile::new().unwrap();
        let (state, through) = match cookies.contains("stateful") {
            true => ("", "edge"),
            false if cookies.contains("web") => ("stateful: true, ", "edge, web"),
            false => ("stateful: true, ", "edge"),
        };
        let text = format!(
            "ports: {{ lan: net_null0, wan: net_null1 }}\n\
             functions: {{ edge: {{ type: firewall, {state}rules: [], syn-cookies: {cookies} }} }}\n\
             chains: {{ outbound: {{ from: lan, through: [ {through} ], to: wan }} }}\n"
        );
        file.write_all(text.as_bytes()).unwrap();
        let output = Command::new(NFV).arg("check").arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(said.contains(expected), "{text}{said}");
    }
}
