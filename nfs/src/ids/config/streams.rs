//! How streams and applications are followed, and what memory they may take.

use std::net::IpAddr;

use ipnet::IpNet;
use nfv_core::chain::value::{Prefix, Size};

use super::{SuricataYaml, Words};
use crate::ids::inspector::{Budget, PerProtocol, Settings, Vlans};
use crate::ids::stream::{self, HostPolicies, Midstream, OneSide, OverlapPolicy, Urgent};

/// What may be taken, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of a worker, for flows and their connections.
    pub flows: usize,
    /// Of a worker, for bytes of streams.
    pub streams: usize,
    /// Of a worker, for transactions.
    pub applications: usize,
    /// Of a worker, for fragments that wait.
    pub fragments: usize,
    /// Of all workers, for thresholds and bits of hosts.
    pub detection: usize,
    /// Of a worker, for records that wait to be written.
    pub log: usize,
}

impl Default for Memory {
    /// Where Suricata has a limit of the same, its own.
    fn default() -> Self {
        Self {
            flows: 128 << 20,
            streams: 256 << 20,
            applications: 128 << 20,
            fragments: 32 << 20,
            detection: 32 << 20,
            log: 64 << 20,
        }
    }
}

/// What is said of streams, applications, fragments and flows.
pub(super) fn read(yaml: &SuricataYaml, memory: &Memory, words: &mut Words<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    tcp(&mut settings.streams, yaml, words);
    limits(&mut settings, yaml, words);
    timeouts(&mut settings, yaml, words);
    if words.told(yaml.flag("vlan.use-for-tracking")) == Some(false) {
        settings.vlans = Vlans::Together;
    }
    // Connections of the stream engine take as much again as flows.
    let flows = memory.flows / 2;
    settings.budget = Budget { flows, apps: memory.applications };
    let connections = words.told(yaml.size("stream.memcap"));
    let connections = connections.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(flows);
    settings.streams.budget = stream::Budget { connections, bytes: memory.streams };
    settings.datagrams.bytes = memory.fragments;
    settings.datagrams.hosts = settings.streams.hosts.clone();
    let timeout = words.told(yaml.number("defrag.timeout"));
    let timeout = timeout.and_then(|seconds| u32::try_from(seconds).ok());
    settings.datagrams.timeout = timeout.unwrap_or(settings.datagrams.timeout);
    settings
}

fn tcp(tcp: &mut stream::Settings, yaml: &SuricataYaml, words: &mut Words<'_, '_>) {
    let own = words.section.record("stream");
    let own_flag = |key: &str| own.as_ref().and_then(|stream| stream.flag(key));
    let midstream = own_flag("midstream").or(words.told(yaml.flag("stream.midstream")));
    if midstream == Some(true) {
        tcp.midstream = Midstream::PickUp;
    }
    let one_side = own_flag("async-oneside").or(words.told(yaml.flag("stream.async-oneside")));
    if one_side == Some(true) {
        tcp.one_side = OneSide::Follow;
    }
    let depth = own.as_ref().and_then(|s| s.value::<Size>("depth")).map(Size::bytes);
    let depth = depth.or(words.told(yaml.size("stream.reassembly.depth")));
    tcp.depth = depth.unwrap_or(tcp.depth);
    let chunks = ["toserver-chunk-size", "toclient-chunk-size"];
    for (chunk, name) in tcp.chunk.iter_mut().zip(chunks) {
        let size = words.told(yaml.size(&format!("stream.reassembly.{name}")));
        if let Some(size) = size.and_then(|size| u32::try_from(size).ok()) {
            *chunk = size.max(1);
        }
    }
    let offers = words.told(yaml.number("stream.max-synack-queued"));
    tcp.offers = offers.and_then(|n| u8::try_from(n).ok()).unwrap_or(tcp.offers);
    if yaml.word("stream.reassembly.urgent.policy") == Some("inline") {
        tcp.urgent = Urgent::Inline;
    }
    tcp.hosts = hosts(yaml, words);
}

fn limits(settings: &mut Settings, yaml: &SuricataYaml, words: &mut Words<'_, '_>) {
    let http = "app-layer.protocols.http.libhtp.default-config";
    let limits = &mut settings.apps;
    let bodies = [
        (&mut limits.request_body, "request-body-limit"),
        (&mut limits.response_body, "response-body-limit"),
    ];
    for (limit, name) in bodies {
        match words.told(yaml.size(&format!("{http}.{name}"))) {
            // No limit.
            Some(0) => *limit = u64::MAX,
            Some(bytes) => *limit = bytes,
            None => {}
        }
    }
    let layers = words.told(yaml.number(&format!("{http}.response-body-decompress-layer-limit")));
    if let Some(layers) = layers.and_then(|n| usize::try_from(n).ok()) {
        limits.encodings = layers;
    }
    let bomb = words.told(yaml.size(&format!("{http}.compression-bomb-limit")));
    limits.bomb_bytes = bomb.unwrap_or(limits.bomb_bytes);
}

/// `flow-timeouts`, in seconds.
fn timeouts(settings: &mut Settings, yaml: &SuricataYaml, words: &mut Words<'_, '_>) {
    let mut read = |timeouts: &mut PerProtocol, prefix: &str| {
        let protocols = [
            (&mut timeouts.other, "default"),
            (&mut timeouts.tcp, "tcp"),
            (&mut timeouts.udp, "udp"),
            (&mut timeouts.icmp, "icmp"),
        ];
        for (times, protocol) in protocols {
            for (time, phase) in times.iter_mut().zip(["new", "established", "closed", "bypassed"])
            {
                let path = format!("flow-timeouts.{protocol}.{prefix}{phase}");
                let seconds = words.told(yaml.number(&path));
                *time = seconds.and_then(|s| u32::try_from(s).ok()).unwrap_or(*time);
            }
        }
    };
    read(&mut settings.timeouts.usual, "");
    read(&mut settings.timeouts.emergency, "emergency-");
}

/// `host-os-policy`: of each prefix the system; the chain file's count before the others.
fn hosts(yaml: &SuricataYaml, words: &mut Words<'_, '_>) -> HostPolicies {
    let mut all: Vec<(IpNet, OverlapPolicy)> = Vec::new();
    for (system, text) in yaml.below("host-os-policy") {
        let Some(policy) = OverlapPolicy::named(system) else {
            let place = words.place("host-os-policy");
            words.report.error(place, format!("host-os-policy knows no system `{system}`"));
            continue;
        };
        match network(text) {
            Some(net) => all.push((net, policy)),
            None => {
                let place = words.place("host-os-policy");
                let message = format!("host-os-policy: {system}: `{text}` is no address");
                words.report.error(place, message);
            }
        }
    }
    if let Some(stream) = words.section.record("stream") {
        for (system, prefixes) in stream.lists::<Prefix>("hosts") {
            match OverlapPolicy::named(&system.value) {
                Some(policy) => all.extend(prefixes.iter().map(|p| (p.value.net(), policy))),
                None => {
                    let known = OverlapPolicy::ALL.map(OverlapPolicy::name).join(" ");
                    let message = format!("there is no system `{}`", system.value);
                    words.report.error(system.span, message).hint(format!("systems: {known}"));
                }
            }
        }
    }
    HostPolicies::new(all, OverlapPolicy::default())
}

/// A prefix with whatever bits behind its length, or an address.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim_ascii();
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.ok().map(|net| net.trunc())
}

impl Memory {
    pub(super) fn read(yaml: &SuricataYaml, words: &mut Words<'_, '_>) -> Self {
        let mut this = Self::default();
        let own = words.section.record("memory");
        let mut set = |place: &mut usize, key: &str, path: &str| {
            let own = own.as_ref().and_then(|memory| memory.value::<Size>(key)).map(Size::bytes);
            let bytes = own.or_else(|| words.told(yaml.size(path)));
            if let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
                *place = bytes;
            }
        };
        set(&mut this.flows, "flows", "flow.memcap");
        set(&mut this.streams, "streams", "stream.reassembly.memcap");
        set(&mut this.applications, "applications", "app-layer.protocols.http.memcap");
        set(&mut this.fragments, "fragments", "defrag.memcap");
        set(&mut this.detection, "detection", "host.memcap");
        set(&mut this.log, "log", "");
        this
    }
}
