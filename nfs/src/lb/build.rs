//! From the section of the chain file to a service; and what can be wrong with it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nfv_core::chain::claims::Claim;
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::source::{Span, Spanned};
use nfv_core::chain::value::{MacAddress, PortRange};
use nfv_core::nf::{
    Built, Endpoint, Handle, Named, Purpose, Surroundings, Tracking, Tunnel, TunnelKind, Via,
};
use nfv_core::packet::{AddressBytes, L3, protocol};
use siphasher::sip::SipHasher13;

use super::backends::{Backends, Member, Port, SameId, Way};
use super::health::{HttpGet, Pace, Probe, State, Statuses, Target, Threshold, Transition, watch};
use super::maglev::TableSize;
use super::quic::PlaintextConfig;
use super::snat::{Held, RANGE_STEP, Snat, Source};
use super::{Affinity, Lb, Service};

/// Builds a service.
pub fn build(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Built> {
    let errors = report.errors();
    let service = service(section, around, report);
    let ids = ids(section, report);
    let backends = read_backends(section, report);
    let size = table_size(section, &backends, report);
    check_all(section, &backends, ids.as_ref(), report);
    check_snat(section, &backends, around, report);
    let ways: Vec<Option<Way>> = backends.iter().map(|b| way(section, b, report)).collect();
    let mut targets = targets(section, &backends, report);
    if report.errors() > errors {
        return None;
    }
    let elsewhere = |way: &Way| matches!(way, Way::Via(Via::Station(_) | Via::Tunnel(_)));
    let is_one_way = ways.iter().flatten().any(elsewhere);
    let member = |(b, way): (&Found, Option<Way>)| {
        let server = ids.as_ref().and(b.server);
        Some(Member { name: b.name.clone(), weight: b.weight, way: way?, server })
    };
    let members: Option<Vec<Member>> = backends.iter().zip(ways).map(member).collect();
    let generation = Arc::new(AtomicU32::new(0));
    let before = around.heritage.and_then(|h| h.downcast_ref::<Inherited>());
    let backends_before = before.map(|b| &*b.backends);
    let all = match Backends::new(members?, size?, generation.clone(), backends_before) {
        Ok(all) => Arc::new(all),
        Err(SameId(a, b)) => {
            let (a, b) = (backends.get(a)?, backends.get(b)?);
            let message = format!("backend `{}` has the same hash as `{}`", b.name, a.name);
            report.error(b.span, message).hint("call one of them otherwise: `name`");
            return None;
        }
    };
    let service = service?;
    let held = before.and_then(|b| b.held.clone());
    let (snat, held) = match snat(section, &service, &backends, held.clone()) {
        Some((snat, held)) => (Some(Arc::new(snat)), Some(held)),
        None => (None, held),
    };
    let decides = service.told_apart();
    let lb = Lb {
        service,
        affinity: match section.choice("affinity")? {
            "source" => Affinity::Source,
            _ => Affinity::None,
        },
        ids,
        key: key(section.text("seed"), around.purpose),
        backends: all.clone(),
        snat: snat.clone(),
        held: held.clone(),
    };
    let mut handles = all.handles();
    handles.push(snat_handle(snat, all.clone()));
    let rules = backends.iter().map(|b| format!("line {}: {}", b.span.line, b.name)).collect();
    let built = Built::flow(lb)
        .with_tracking(Tracking::Follow)
        .deciding(move || decides.clone())
        .with_generation(generation)
        .with_heritage(Arc::new(Inherited { backends: all.clone(), held }))
        .with_handles(handles)
        .with_rules(rules);
    let built = if is_one_way { built.one_way() } else { built };
    if targets.is_empty() || around.purpose != Purpose::Run {
        return Some(built);
    }
    for (at, target) in targets.iter_mut().enumerate() {
        target.start = all.health(at);
    }
    let name = section.name().to_owned();
    let seed = RandomState::new().hash_one(&name);
    let report = move |at: usize, change: Transition| {
        match change {
            Transition::Rose => tracing::info!("{name}: backend {} is up", all.name(at)),
            Transition::Fell(why) => {
                tracing::warn!("{name}: backend {} is down: {why}", all.name(at));
            }
        }
        all.set_health(at, change.state());
    };
    Some(built.with_task(watch(targets, seed, report)))
}

/// What the one that replaces it at a reload takes over.
#[derive(Debug)]
struct Inherited {
    backends: Arc<Backends>,
    held: Option<Arc<Held>>,
}

/// A backend as the file has it.
struct Found {
    name: String,
    span: Span,
    address: IpAddr,
    address_span: Span,
    port: Option<u16>,
    weight: u32,
    mac: Option<[u8; 6]>,
    mac_span: Span,
    server: Option<u64>,
    server_span: Span,
    snat: Option<PortRange>,
    snat_span: Span,
}

fn read_backends(section: &Section<'_>, report: &mut Report) -> Vec<Found> {
    let list = section.sections("backends");
    if list.is_empty() && section.has("backends") {
        report
            .error(section.span_of("backends"), "a virtual address without backends")
            .hint("list at least one: `backends: [ { address: 10.2.0.11 } ]`");
    }
    let read = |b: &Section<'_>| {
        let address: IpAddr = b.value("address")?;
        let port = b.integer("port").and_then(|p| u16::try_from(p).ok());
        let name = b.text("name").unwrap_or_else(|| match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        });
        Some(Found {
            name,
            span: b.span(),
            address,
            address_span: b.span_of("address"),
            port,
            weight: u32::try_from(b.integer("weight")?).ok()?,
            mac: b.value::<MacAddress>("mac").map(MacAddress::bytes),
            mac_span: b.span_of_key("mac"),
            server: b.integer("server-id"),
            server_span: b.span_of("server-id"),
            snat: b.value("snat-ports"),
            snat_span: b.span_of("snat-ports"),
        })
    };
    list.iter().filter_map(read).collect()
}

/// The ends of the service, which it takes for itself.
fn service(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Service> {
    let ports = match section.value::<PortRange>("port") {
        Some(ports) => ports,
        None if section.has("port") => return None,
        None => PortRange::new(0, u16::MAX)?,
    };
    let protocol = match section.choice("protocol")? {
        "tcp" => protocol::TCP,
        _ => protocol::UDP,
    };
    let addresses: Vec<Spanned<IpAddr>> = section.values("virtual");
    for Spanned { value: address, span } in &addresses {
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            report.error(*span, format!("{address} is no address that a service can have"));
        } else if let Err((port, earlier)) =
            claim("the virtual address of a lb", *address, *span, protocol, ports, around)
        {
            say_taken(*address, port, &earlier, *span, report);
        }
    }
    let addresses = addresses.iter().map(|a| (family(a.value), bytes(a.value))).collect();
    Some(Service { addresses, ports, protocol })
}

/// Takes the ends; the error is the first port that another has, and who.
fn claim(
    what: &'static str,
    address: IpAddr,
    span: Span,
    protocol: u8,
    ports: PortRange,
    around: Surroundings<'_>,
) -> Result<(), (Option<u16>, Claim)> {
    let own = Some((protocol, ports));
    let claim = Claim { what, first: address, last: address, ports: own, span };
    around.claims.take(claim).map_err(|earlier| {
        let port = earlier.ports.map(|(_, other)| other.first().max(ports.first()));
        (port.filter(|port| *port > 0), earlier)
    })
}

fn say_taken(address: IpAddr, port: Option<u16>, earlier: &Claim, span: Span, report: &mut Report) {
    let of = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let Span { line, column, .. } = earlier.span;
    report
        .error(span, format!("{address}{of} is {} already", earlier.what))
        .hint(format!("see line {line}, column {column}: an address and port has one use"));
}

fn ids(section: &Section<'_>, report: &mut Report) -> Option<PlaintextConfig> {
    let quic = section.record("quic")?;
    if section.choice("protocol") != Some("quic") {
        report
            .error(section.span_of_key("quic"), "`quic` without `protocol: quic`")
            .hint("only QUIC has connection ids");
    }
    let byte = |key| quic.integer(key).and_then(|n| u8::try_from(n).ok());
    Some(PlaintextConfig { rotation: byte("rotation")?, length: byte("server-id-length")? })
}

fn table_size(section: &Section<'_>, backends: &[Found], report: &mut Report) -> Option<TableSize> {
    let slots = u32::try_from(section.integer("table-size")?).ok()?;
    let Some(size) = TableSize::new(slots) else {
        let sizes = TableSize::ALL.map(|s| s.to_string()).join(" ");
        report
            .error(section.span_of("table-size"), format!("{slots} is not a size of a table"))
            .hint(format!("sizes are primes: {sizes}"));
        return None;
    };
    if backends.len() as u64 > u64::from(slots) || backends.len() >= usize::from(u16::MAX) {
        let message = format!("{} backends do not fit {slots} slots", backends.len());
        report.error(section.span_of("backends"), message);
    }
    Some(size)
}

/// What is wrong with backends beside each other.
fn check_all(
    section: &Section<'_>,
    backends: &[Found],
    ids: Option<&PlaintextConfig>,
    report: &mut Report,
) {
    if !backends.is_empty() && backends.iter().all(|b| b.weight == 0) {
        report
            .error(section.span_of("backends"), "no backend has any weight")
            .hint("a weight of 0 means no new flows: leave `weight` out of one");
    }
    for (i, b) in backends.iter().enumerate() {
        let earlier = backends.get(..i).unwrap_or_default();
        if let Some(other) = earlier.iter().find(|e| e.name == b.name) {
            let message = if other.address.is_ipv4() == b.address.is_ipv4() {
                format!("there is a backend `{}` already", b.name)
            } else {
                format!("backend `{}` has addresses of two families", b.name)
            };
            let hint =
                format!("see line {}: a backend has one name and one address", other.span.line);
            report.error(b.span, message).hint(hint);
        } else if let Some(other) =
            earlier.iter().find(|e| (e.address, e.port) == (b.address, b.port))
        {
            let message = format!("{} is backend `{}` already", b.address, other.name);
            report.error(b.address_span, message).hint("give one more `weight` instead");
        }
        let Some(ids) = ids else {
            if b.server.is_some() {
                report
                    .error(b.server_span, "`server-id` without `quic`")
                    .hint("say how long it is: `quic: { server-id-length: 1 }`");
            }
            continue;
        };
        match b.server {
            None => {
                let message = format!("backend `{}` has no `server-id`", b.name);
                report.error(b.span, message).hint("connection ids could not name it");
            }
            Some(id) if ids.length < 8 && id >> (8 * ids.length) != 0 => {
                let message = format!("{id} does not fit {} bytes", ids.length);
                report.error(b.server_span, message).hint("`quic: server-id-length`");
            }
            Some(id) => {
                if let Some(other) = earlier.iter().find(|e| e.server == Some(id)) {
                    let message = format!("{id} is the server id of `{}` already", other.name);
                    report.error(b.server_span, message);
                }
            }
        }
    }
    for key in ["from", "gue-port"] {
        let mode = section.choice("mode");
        let of_use = mode == Some("gue") || key == "from" && mode == Some("ipip");
        if section.has(key) && !of_use {
            let message = format!("`{key}` is of no use in mode `{}`", mode.unwrap_or_default());
            report.error(section.span_of_key(key), message);
        }
    }
}

/// What is wrong with the ranges of ports that backends have, and takes them.
fn check_snat(
    section: &Section<'_>,
    backends: &[Found],
    around: Surroundings<'_>,
    report: &mut Report,
) {
    let virtuals: Vec<Spanned<IpAddr>> = section.values("virtual");
    for (i, b) in backends.iter().enumerate() {
        let Some(ports) = b.snat else { continue };
        let (first, last) = (ports.first(), ports.last());
        if !first.is_multiple_of(RANGE_STEP) || last % RANGE_STEP != RANGE_STEP - 1 {
            let (from, to) = (first - first % RANGE_STEP, last | (RANGE_STEP - 1));
            report
                .error(b.snat_span, format!("{ports} is no range that a backend can have"))
                .hint(format!("whole eights, from a multiple of 8 on: `{from}-{to}`"));
            continue;
        }
        if first == 0 {
            report.error(b.snat_span, "port 0 is none's").hint("begin at 8 or later");
            continue;
        }
        if !section.has("port") {
            report
                .error(b.snat_span, "`snat-ports` of a service that has all ports")
                .hint("say which are the service's: `port: 80`");
            continue;
        }
        let mut earlier = backends.get(..i).unwrap_or_default().iter().filter(|e| e.snat.is_some());
        if let Some(other) = earlier.find(|e| e.address == b.address) {
            report
                .error(b.snat_span, format!("{} has `snat-ports` already", b.address))
                .hint(format!("see line {}: a host has one range", other.span.line));
            continue;
        }
        let mut ends = virtuals.iter().flat_map(|v| [(v, protocol::TCP), (v, protocol::UDP)]);
        let taken = ends.find_map(|(v, proto)| {
            let what = "of a backend's `snat-ports`";
            claim(what, v.value, b.snat_span, proto, ports, around).err().map(|e| (v.value, e))
        });
        if let Some((address, (port, earlier))) = taken {
            say_taken(address, port, &earlier, b.snat_span, report);
        }
    }
}

/// Which backends have ports for connections that they open; the ports in use, those that flows held before with them.
fn snat(
    section: &Section<'_>,
    service: &Service,
    backends: &[Found],
    held: Option<Arc<Held>>,
) -> Option<(Snat, Arc<Held>)> {
    let indexed = || (0u16..).zip(backends);
    let ranges: Vec<_> = indexed().filter_map(|(at, b)| Some((b.snat?, at))).collect();
    if ranges.is_empty() {
        return None;
    }
    let held = held.unwrap_or_else(|| Arc::new(Held::new()));
    let own = |(at, b): (u16, &Found)| (bytes(b.address), at, b.snat);
    let source = match section.choice("mode")? {
        "dnat" => Some(Source::new(*service.addresses.first()?, indexed().map(own), held.clone())),
        _ => None,
    };
    Some((Snat::new(ranges, source), held))
}

fn snat_handle(snat: Option<Arc<Snat>>, backends: Arc<Backends>) -> Handle {
    let read = move || {
        let line = |(at, ports, in_use): (u16, PortRange, Option<u32>)| {
            let in_use = in_use.map(|n| format!(" {n}")).unwrap_or_default();
            format!("{} {ports}{in_use}", backends.name(usize::from(at)))
        };
        let all = snat.iter().flat_map(|snat| snat.in_use());
        all.map(line).collect::<Vec<_>>().join("\n")
    };
    let help = "of each backend with `snat-ports` its name, those, and how many flows have one";
    Handle { named: Named { name: "snat", help }, read: Box::new(read), write: None }
}

/// How packets reach a backend.
fn way(section: &Section<'_>, b: &Found, report: &mut Report) -> Option<Way> {
    let virtuals: Vec<Spanned<IpAddr>> = section.values("virtual");
    let mode = section.choice("mode")?;
    match mode {
        "dnat" => {
            if let Some(v) = virtuals.iter().find(|v| v.value.is_ipv4() != b.address.is_ipv4()) {
                let (own, other) = (name(b.address), name(v.value));
                report
                    .error(
                        b.address_span,
                        format!("{} is {own}, and {} is {other}", b.address, v.value),
                    )
                    .hint("`dnat` keeps the family: make a lb for each, or use `mode: ipip`");
                return None;
            }
            if virtuals.iter().any(|v| v.value == b.address) {
                report.error(b.address_span, format!("{} is the virtual address", b.address));
                return None;
            }
            if b.mac.is_some() {
                report.error(b.mac_span, "`mac` is of no use in mode `dnat`");
                return None;
            }
            let end = Endpoint { address: bytes(b.address), port: b.port.unwrap_or_default() };
            let port = if b.port.is_some() { Port::Own } else { Port::Same };
            Some(Way::Address { end, port })
        }
        "dsr" => match b.mac {
            Some(mac) => Some(Way::Via(Via::Station(mac))),
            None => {
                report
                    .error(b.span, format!("backend `{}` has no `mac`", b.name))
                    .hint("`dsr` sends to a station: give its MAC address");
                None
            }
        },
        _ => {
            let from: Vec<Spanned<IpAddr>> = section.values("from");
            let Some(src) = from.iter().find(|a| a.value.is_ipv4() == b.address.is_ipv4()) else {
                let own = name(b.address);
                report
                    .error(
                        b.address_span,
                        format!("there is no tunnel from {own} to {}", b.address),
                    )
                    .hint(format!("`from`: an {own} address of the box"));
                return None;
            };
            let kind = match mode {
                "ipip" => TunnelKind::Ipip,
                _ => TunnelKind::Gue { port: u16::try_from(section.integer("gue-port")?).ok()? },
            };
            let (src, dst, station) = (src.value, b.address, b.mac);
            Some(Way::Via(Via::Tunnel(Tunnel { src, dst, station, kind })))
        }
    }
}

/// What is to be checked; in the order of the backends, or nothing.
fn targets(section: &Section<'_>, backends: &[Found], report: &mut Report) -> Vec<Target> {
    let Some(health) = section.record("health") else { return Vec::new() };
    let time = |key| health.value::<Duration>(key).unwrap_or_default();
    let pace = match Pace::new(time("interval"), time("timeout")) {
        Ok(pace) => pace,
        Err(why) => {
            let key = if health.has("timeout") { "timeout" } else { "interval" };
            report.error(health.span_of(key), why.to_string());
            return Vec::new();
        }
    };
    let count = |key| {
        let n = health.integer(key).and_then(|n| u32::try_from(n).ok());
        n.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    };
    let threshold = Threshold { rise: count("rise"), fall: count("fall") };
    let statuses = match health.text("statuses").unwrap_or_default().parse::<Statuses>() {
        Ok(statuses) => statuses,
        Err(why) => {
            report.error(health.span_of("statuses"), why.to_string());
            return Vec::new();
        }
    };
    let is_http = health.choice("kind") == Some("http");
    for key in ["path", "host", "statuses"] {
        if !is_http && health.has(key) {
            report
                .error(health.span_of_key(key), format!("`{key}` without `kind: http`"))
                .hint("a TCP check only connects");
        }
    }
    let one = section.value::<PortRange>("port").filter(|p| p.first() == p.last());
    let asked = health.integer("port").and_then(|p| u16::try_from(p).ok());
    let mut targets = Vec::new();
    for b in backends {
        let Some(port) = asked.or(b.port).or(one.map(PortRange::first)) else {
            report
                .error(
                    health.span(),
                    format!("at which port is backend `{}` to be checked?", b.name),
                )
                .hint("the service has many: say `port` here");
            break;
        };
        let probe = if is_http {
            let own = match b.address {
                IpAddr::V4(a) => a.to_string(),
                IpAddr::V6(a) => format!("[{a}]"),
            };
            let host = health.text("host").unwrap_or(own);
            let path = health.text("path").unwrap_or_default();
            match HttpGet::new(&host, &path, statuses.clone()) {
                Ok(get) => Probe::Http(get),
                Err(why) => {
                    report.error(health.span(), why.to_string());
                    break;
                }
            }
        } else {
            Probe::Tcp
        };
        let address = SocketAddr::new(b.address, port);
        targets.push(Target { address, probe, pace, threshold, start: State::Up });
    }
    targets
}

/// The key by which flows are spread: of a text, else of this process, so that a reload spreads them as before.
fn key(seed: Option<String>, purpose: Purpose) -> [u64; 2] {
    static OWN: OnceLock<[u64; 2]> = OnceLock::new();
    let of = |text: &str| {
        [1, 2].map(|half| {
            let mut hasher = SipHasher13::new_with_keys(half, half);
            hasher.write(text.as_bytes());
            hasher.finish()
        })
    };
    match (seed, purpose) {
        (Some(text), _) => of(&text),
        (None, Purpose::Run) => {
            *OWN.get_or_init(|| [1u8, 2].map(|half| RandomState::new().hash_one(half)))
        }
        // The same every time.
        (None, Purpose::Check | Purpose::Replay) => of("replay"),
    }
}

fn family(address: IpAddr) -> L3 {
    if address.is_ipv4() { L3::Ipv4 } else { L3::Ipv6 }
}

fn name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn bytes(address: IpAddr) -> AddressBytes {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            AddressBytes::of_v4([a, b, c, d])
        }
        IpAddr::V6(a) => AddressBytes(a.octets()),
    }
}
