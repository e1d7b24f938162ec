use nfs::ids::detect::*;
use nfs::ids::eve::{Record, ReplayLog};
use nfs::ids::inspector::*;
use nfs::ids::rules::*;
use nfs::ids::stream;
use nfv_core::clock::Time;
use std::fs::File;
use std::sync::Arc;
struct Rec(ReplayLog);
impl Recorder for Rec {
    fn record(&mut self, r: Record) {
        nfs::ids::inspector::Recorder::record(&mut self.0, r)
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |n: &str| args.iter().any(|a| a == n);
    let val = |n: &str| args.iter().find_map(|a| a.strip_prefix(n).map(str::to_string));
    let files: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with("--")).collect();
    let mut settings = Settings::default();
    if has("--nocsum") {
        settings.checksums = Checksums::Ignore;
    }
    if has("--inline") {
        settings.streams.mode = stream::Mode::Inline;
    }
    if has("--midstream") {
        settings.streams.midstream = stream::Midstream::PickUp;
    }
    if has("--async") {
        settings.streams.one_side = stream::OneSide::Follow;
    }
    if has("--novlan") {
        settings.vlans = Vlans::Together;
    }
    if let Some(p) = val("--policy=") {
        let h = stream::HostPolicies::new(vec![], stream::OverlapPolicy::named(&p).unwrap());
        settings.streams.hosts = h.clone();
        settings.datagrams.hosts = h;
    }
    if let Some(a) = settings.records.anomaly.as_mut() {
        a.decode = true;
        a.stream = true;
    }
    if let Some(a) = settings.records.alert.as_mut() {
        a.payload = true;
        a.payload_printable = true;
        a.packet = true;
        a.http_body = true;
        a.http_body_printable = true;
    }
    settings.apps.request_body = 1 << 20;
    settings.apps.response_body = 1 << 20;
    let settings = Arc::new(settings);
    let mut events: Vec<String> = events();
    events.extend(["ipv4.trunc_pkt", "ipv4.frag_overlap", "tcp.opt_duplicate"].map(String::from));
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let text = std::fs::read(files[1]).unwrap_or_default();
    let s = |a: &[(&str, &str)]| {
        a.iter().map(|(x, y)| (x.to_string(), y.to_string())).collect::<Vec<_>>()
    };
    let mut addresses = s(&[
        ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
        ("EXTERNAL_NET", "any"),
        ("HTTP_SERVERS", "any"),
        ("SMTP_SERVERS", "any"),
        ("SQL_SERVERS", "any"),
        ("DNS_SERVERS", "any"),
        ("TELNET_SERVERS", "any"),
        ("AIM_SERVERS", "any"),
    ]);
    let mut ports = s(&[
        ("HTTP_PORTS", "80"),
        ("SHELLCODE_PORTS", "!80"),
        ("SSH_PORTS", "22"),
        ("FTP_PORTS", "21"),
        ("FILE_DATA_PORTS", "any"),
        ("DNS_PORTS", "53"),
    ]);
    if let Some(f) = val("--yaml=") {
        let g = Groups::of_suricata_yaml(&std::fs::read_to_string(f).unwrap()).unwrap_or_default();
        addresses.extend(g.addresses);
        ports.extend(g.ports);
    }
    let (variables, _) = Variables::new(&addresses, &ports);
    let rules = Rules::read(
        &[Source { name: "r", text: &text }],
        &Setup { variables: &variables, classes: &Classes::default(), events: &events },
    );
    for r in rules.skipped.iter().chain(&rules.broken).chain(&rules.replaced) {
        println!("RULE {r}");
    }
    let det = Detector::new(
        Arc::new(Ruleset::compile(rules, &Compile { events: &events, cache: None })),
        Arc::new(Memory::new(1 << 20)),
    );
    let mut ins = Inspector::new(Arc::clone(&settings), det);
    let mut rec =
        Rec(ReplayLog::create(files[2].into(), Arc::new(settings.records.clone())).unwrap());
    let mut n = 0u64;
    let mut last = Time(0);
    let mut go = |data: &[u8], orig: u32, t: u64, link: pcap_file::DataLink| {
        n += 1;
        last = Time(t);
        let skip = match link {
            pcap_file::DataLink::ETHERNET => None,
            pcap_file::DataLink::NULL => Some(4),
            pcap_file::DataLink::LINUX_SLL => Some(16),
            _ => Some(0),
        };
        let mut d = vec![0u8; 12];
        let frame = match skip {
            None => data,
            Some(s) => {
                let ip = data.get(s..).unwrap_or_default();
                d.extend_from_slice(if ip.first().is_some_and(|b| b >> 4 == 6) {
                    &[0x86, 0xdd]
                } else {
                    &[8, 0]
                });
                d.extend_from_slice(ip);
                &d
            }
        };
        let cut = data.len() as u32;
        let wire = frame.len() as u32 + (orig.max(cut) - cut);
        let v = ins.packet(
            &Seen { time: last, frame, wire_length: wire, port: 0, place: Some(n) },
            &mut rec,
        );
        if v.answer != Answer::Pass {
            println!("{n}: {v:?}");
        }
    };
    if let Ok(mut reader) = pcap_file::pcap::PcapReader::new(File::open(files[0]).unwrap()) {
        let link = reader.header().datalink;
        while let Some(Ok(p)) = reader.next_packet() {
            go(&p.data, p.orig_len, p.timestamp.as_nanos() as u64, link);
        }
    } else {
        let mut reader =
            pcap_file::pcapng::PcapNgReader::new(File::open(files[0]).unwrap()).unwrap();
        let mut link = pcap_file::DataLink::ETHERNET;
        while let Some(Ok(b)) = reader.next_block() {
            match b {
                pcap_file::pcapng::Block::InterfaceDescription(i) => link = i.linktype,
                pcap_file::pcapng::Block::EnhancedPacket(p) => {
                    go(&p.data, p.original_len, p.timestamp.as_nanos() as u64, link)
                }
                _ => {}
            }
        }
    }
    ins.finish(last, &mut rec);
    rec.0.finish().unwrap();
    println!(
        "{}",
        ins.counters()
            .iter()
            .filter(|c| c.1 > 0)
            .map(|c| format!("{}={}", c.0, c.1))
            .collect::<Vec<_>>()
            .join(" ")
    );
}
