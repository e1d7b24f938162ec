//! Through `nfv replay`: what an `ids` finds in a stream it finds again when the stream is cut into single bytes, sent in
//! another order, lied over and fragmented; inline, nothing of it gets through either. The variants by the thousand are in
//! the inspector's own tests.

mod testkit;

use std::path::Path;

use nfv_core::packet::checksum::Sum;
use serde_json::Value;
use testkit::replayed::Replayed;

const RULES: &str = "ACTION http any any -> any any (msg:\"shell\"; flow:established,to_server; http.uri; content:\"/cgi-bin/shell\"; sid:1;)\n\
    alert tcp any any -> any any (msg:\"agent\"; content:\"User-Agent|3a 20|scanner\"; sid:2;)\n";

const REQUEST: &[u8] =
    b"GET /cgi-bin/./shell HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: scanner/1.0\r\n\r\n";

/// How the request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Whole,
    /// Byte by byte, the last one first.
    Bytes,
    /// So, and before each byte another one with a wrong checksum.
    Lies,
    /// Segments of 40 bytes, each in fragments of 8, the last one first.
    Fragments,
}

/// A segment between 10.1.0.1:4000 and 10.2.0.2:80, as the client or the server sends it.
fn segment(of_client: Host, (seq, ack): (u32, u32), flags: &str, payload: &[u8]) -> Vec<u8> {
    let (client, server) = (([10, 1, 0, 1], 4000), ([10, 2, 0, 2], 80));
    let (src, dst) = if of_client == Host::Client { (client, server) } else { (server, client) };
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src.0, dst.0, 64)
        .tcp(src.1, dst.1, seq, 60_000);
    let builder = if flags.contains('S') { builder.syn() } else { builder };
    let builder = if flags.contains('A') { builder.ack(ack) } else { builder };
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Client,
    Server,
}

/// A connection with the request, and its answer.
fn frames(sent: Sent) -> Vec<Vec<u8>> {
    use Host::{Client, Server};
    let mut frames = vec![
        segment(Client, (99, 0), "S", b""),
        segment(Server, (499, 100), "SA", b""),
        segment(Client, (100, 500), "A", b""),
    ];
    let size = match sent {
        Sent::Whole => REQUEST.len(),
        Sent::Bytes | Sent::Lies => 1,
        Sent::Fragments => 40,
    };
    let mut parts: Vec<(usize, &[u8])> = REQUEST.chunks(size).enumerate().collect();
    parts.reverse();
    for (number, part) in parts {
        let seq = 100 + (number * size) as u32;
        let true_one = segment(Client, (seq, 500), "A", part);
        match sent {
            Sent::Whole | Sent::Bytes => frames.push(true_one),
            Sent::Lies => {
                let mut lie = segment(Client, (seq, 500), "A", b"#");
                lie[50] ^= 0x5a;
                frames.extend([lie, true_one]);
            }
            Sent::Fragments => {
                let all = fragments(&true_one, number as u16 + 1);
                frames.extend(all.into_iter().rev());
            }
        }
    }
    let heard = 100 + REQUEST.len() as u32;
    frames.push(segment(
        Server,
        (500, heard),
        "A",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ));
    frames.push(segment(Client, (heard, 538), "A", b""));
    frames
}

fn fragments(frame: &[u8], id: u16) -> Vec<Vec<u8>> {
    let (header, data) = frame.split_at(34);
    let piece = |(number, bytes): (usize, &[u8])| {
        let mut part = header.to_vec();
        let more = u16::from((number + 1) * 8 < data.len());
        part[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
        part[18..20].copy_from_slice(&id.to_be_bytes());
        part[20..22].copy_from_slice(&(more << 13 | number as u16).to_be_bytes());
        part[24..26].fill(0);
        let sum = Sum::of(&part[14..34]).checksum();
        part[24..26].copy_from_slice(&sum.to_be_bytes());
        part.extend_from_slice(bytes);
        part
    };
    data.chunks(8).enumerate().map(piece).collect()
}

/// The numbers of the rules that fired, and what left.
fn run(folder: &Path, sent: Sent, action: &str, keys: &str) -> (Vec<u64>, Vec<Vec<u8>>) {
    let rules = folder.join("rules");
    std::fs::write(&rules, RULES.replace("ACTION", action)).unwrap();
    let chain = folder.join("chain.yaml");
    let text = format!(
        "ports: {{lan: {{device: net_null0}}, wan: {{device: \"net_null1,no-rx=1\"}}}}\n\
         functions:\n  inspect: {{type: ids, rules: {}, log: eve.json, {keys}}}\n\
         chains: {{through: {{from: lan, through: [inspect], to: wan}}}}\n",
        rules.display()
    );
    std::fs::write(&chain, text).unwrap();
    let stamped = (0..).zip(frames(sent)).map(|(i, frame)| (7_000_000_000 + i * 1000, frame));
    let run = Replayed::of(chain.to_str().unwrap(), stamped).succeeded();
    let log = std::fs::read_to_string(run.path("eve.json")).unwrap();
    let alerts = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut sids: Vec<u64> =
        alerts.filter_map(|line| line["alert"]["signature_id"].as_u64()).collect();
    sids.sort_unstable();
    sids.dedup();
    (sids, run.sent("wan"))
}

const ALL: [Sent; 4] = [Sent::Whole, Sent::Bytes, Sent::Lies, Sent::Fragments];

#[test]
fn alerts_fire_again_and_without_reassembly_they_do_not() {
    let folder = tempfile::tempdir().unwrap();
    for sent in ALL {
        for mode in ["inline", "passive"] {
            let (sids, left) = run(folder.path(), sent, "alert", &format!("mode: {mode}"));
            assert_eq!(sids, [1, 2], "{sent:?} {mode}");
            if mode == "passive" {
                assert_eq!(left, frames(sent), "{sent:?}");
            }
        }
        // The control arm: streams are not put together beyond their first byte.
        let off = "mode: passive, stream: {depth: 1B}";
        let (sids, _) = run(folder.path(), sent, "alert", off);
        assert_ne!(sids, [1, 2], "{sent:?}");
    }
}

#[test]
fn inline_the_request_never_gets_through_whole() {
    let folder = tempfile::tempdir().unwrap();
    for sent in ALL {
        let (sids, left) = run(folder.path(), sent, "drop", "mode: inline");
        assert!(sids.contains(&1), "{sent:?}: {sids:?}");
        assert!(left.len() < frames(sent).len(), "{sent:?}");
        let last = frames(sent).pop().unwrap();
        assert!(!left.contains(&last), "{sent:?}: nothing of the flow leaves behind the match");
        // Without the rule all of it does.
        let (_, left) = run(folder.path(), sent, "alert", "mode: inline");
        assert!(left.contains(&last), "{sent:?}");
    }
}
