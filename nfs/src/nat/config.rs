//! What the chain file says, read into what cannot be wrong.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use nfv_core::chain::claims::Claim;
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::source::{Span, Spanned};
use nfv_core::chain::value::{AddressRange, PortRange, Prefix};
use nfv_core::nf::{Built, Handle, Named, Purpose, Surroundings, Tracking};
use nfv_core::packet::{Headers, L3, protocol};

use super::classes::wide;
use super::contacts::Contacts;
use super::ends::End;
use super::layout::Pooling;
use super::log::{Log, Writer};
use super::mappings::{ADDRESSES_MAX, Mappings, Plot};
use super::prefixes::{LENGTH_MAX, PrefixPair};
use super::ranges::Ranges;
use super::shares::Shares;
use super::statics::{Forwards, Listens, OneToOne};
use super::subscribers::Subscribers;
use super::{Filtering, Hairpin, Limit, Nat};

pub(super) fn build(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Built> {
    let errors = report.errors();
    let mut reader = Reader { section, around, report, internal: Ranges::default() };
    reader.internal = reader.read_internal();
    let pool = reader.read_pool();
    let ports = reader.read_ports();
    let shares = reader.read_shares(&pool, ports);
    let one_to_one = reader.read_one_to_one(&pool);
    let forwards = reader.read_forwards(&pool);
    let prefixes = reader.read_prefixes();
    reader.check_use();
    let internal = reader.internal;
    if report.errors() > errors {
        return None;
    }
    let pooling = match section.choice("pooling") {
        Some("arbitrary") => Pooling::Arbitrary,
        _ => Pooling::Paired,
    };
    let hairpin = match section.choice("hairpin") {
        Some("off") => Hairpin::Off,
        _ => Hairpin::On,
    };
    let writer = open_log(section, around, report);
    let log = Arc::new(if writer.is_some() { Log::kept() } else { Log::not_kept() });
    let before = around.heritage.and_then(|h| h.downcast_ref::<Inherited>());
    let secret = secret(around.purpose);
    let plot = Plot { pool, ports: ports?, pooling, shares, log: log.clone(), secret: secret[0] };
    let most = section.integer("subscriber-sessions").and_then(|n| u32::try_from(n).ok());
    let parts = Mappings::new(plot, before.map(|b| &*b.mappings))
        .zip(filtering(section, secret, before))
        .zip(limit(most, &internal, before));
    let Some(((mut mappings, filtering), limit)) = parts else {
        let message = "there is no memory for so many mappings";
        report.error(section.span_of("external"), message).hint("give it fewer addresses");
        return None;
    };
    if report.errors() > errors {
        return None;
    }
    for (proto, end) in forwards.ends() {
        mappings.reserve(proto, end);
    }
    let mappings = Arc::new(mappings);
    let handles = handles(&mappings, &log);
    let contacts = match &filtering {
        Filtering::AddressDependent(contacts) => Some(contacts.clone()),
        _ => before.and_then(|b| b.contacts.clone()),
    };
    let subscribers = limit.as_ref().map(|l: &Limit| l.subscribers.clone());
    let heritage = Inherited { mappings: mappings.clone(), contacts, subscribers };
    let nat = Nat { internal, mappings, forwards, one_to_one, prefixes, filtering, hairpin, limit };
    let built = Built::flow(nat)
        .with_handles(handles)
        .with_heritage(Arc::new(heritage))
        .binding_addresses()
        .with_tracking(Tracking::Follow);
    Some(match writer {
        None => built,
        Some(writer) => {
            let writer = Arc::new(Mutex::new(writer));
            let (last, last_log) = (writer.clone(), log.clone());
            built.with_task(write_now_and_then(log, writer)).with_finish(Box::new(move || {
                last_log.write(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
                match last_log.lost() {
                    0 => Ok(()),
                    lost => Err(format!("{lost} records of port ranges were not written")),
                }
            }))
        }
    })
}

/// What the nat that replaces it at a reload takes over.
#[derive(Debug)]
struct Inherited {
    mappings: Arc<Mappings>,
    contacts: Option<Arc<Contacts>>,
    subscribers: Option<Arc<Subscribers>>,
}

/// A replay makes the same choices every time.
fn secret(purpose: Purpose) -> [u64; 2] {
    match purpose {
        Purpose::Run => [1u64, 2].map(|i| RandomState::new().hash_one(i) | 1),
        Purpose::Check | Purpose::Replay => REPLAYED,
    }
}

fn filtering(
    section: &Section<'_>,
    secret: [u64; 2],
    before: Option<&Inherited>,
) -> Option<Filtering> {
    Some(match section.choice("filtering") {
        Some("endpoint-independent") => Filtering::EndpointIndependent,
        Some("address-dependent") => {
            let inherited = before.and_then(|b| b.contacts.clone());
            Filtering::AddressDependent(match inherited {
                Some(contacts) => contacts,
                None => Arc::new(Contacts::new(secret)?),
            })
        }
        _ => Filtering::AddressAndPort,
    })
}

/// `None`: there is no memory for it.
fn limit(
    most: Option<u32>,
    internal: &Ranges,
    before: Option<&Inherited>,
) -> Option<Option<Limit>> {
    let Some(most) = most else { return Some(None) };
    let inherited = before.and_then(|b| b.subscribers.clone()).filter(|s| s.is_of(internal));
    let subscribers = match inherited {
        Some(subscribers) => subscribers,
        None => Arc::new(Subscribers::new(internal.clone())?),
    };
    Some(Some(Limit { subscribers, most }))
}

/// The file for records; a check leaves the disk as it is.
fn open_log(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Writer> {
    let path = section.text("log").filter(|_| around.purpose != Purpose::Check)?;
    match Writer::open(path.as_ref()) {
        Ok(writer) => Some(writer),
        Err(why) => {
            report
                .error(section.span_of("log"), format!("{path}: {why}"))
                .hint("name a file in a folder that is there and that this user may write");
            None
        }
    }
}

async fn write_now_and_then(log: Arc<Log>, writer: Arc<Mutex<Writer>>) {
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        log.write(&mut writer.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn handles(mappings: &Arc<Mappings>, log: &Arc<Log>) -> Vec<Handle> {
    let (in_use, given, log) = (mappings.clone(), mappings.clone(), log.clone());
    let read_only = |name, help, read: Box<dyn Fn() -> String + Send + Sync>| Handle {
        named: Named { name, help },
        read,
        write: None,
    };
    vec![
        read_only(
            "mappings",
            "inside ends that have an outside end",
            Box::new(move || in_use.in_use().to_string()),
        ),
        read_only(
            "ranges",
            "ranges of ports that inside addresses have",
            Box::new(move || given.shares_given().to_string()),
        ),
        read_only(
            "log_lost",
            "records that were not written",
            Box::new(move || log.lost().to_string()),
        ),
    ]
}

/// Reads a section, and reports what is wrong with it.
struct Reader<'s, 'n> {
    section: &'s Section<'n>,
    around: Surroundings<'s>,
    report: &'s mut Report,
    internal: Ranges,
}

impl Reader<'_, '_> {
    fn read_internal(&mut self) -> Ranges {
        let mut all = Vec::new();
        for prefix in self.section.values::<Prefix>("internal") {
            match prefix.value.net() {
                IpNet::V4(net) => all.push((net.network(), net.broadcast())),
                IpNet::V6(_) => {
                    self.report
                        .error(prefix.span, "an IPv6 prefix is not translated by ports")
                        .hint("name it under `prefixes` with its outside prefix");
                }
            }
        }
        if !self.section.has("internal") {
            all.extend(PRIVATE.map(|(a, b)| (Ipv4Addr::from(a), Ipv4Addr::from(b))));
        }
        Ranges::of(all)
    }

    fn read_pool(&mut self) -> Ranges {
        let ranges = self.section.values::<AddressRange>("external");
        let count: u64 = ranges.iter().map(|r| r.value.len()).sum();
        if count > ADDRESSES_MAX {
            let message = format!("a pool of {count} addresses is too large");
            let hint = format!("at most {ADDRESSES_MAX}: each has 64,512 ports of its own");
            self.report.error(self.section.span_of("external"), message).hint(hint);
            return Ranges::default();
        }
        for range in &ranges {
            self.take_outside("the pool of a nat", range);
        }
        Ranges::of(ranges.iter().map(|r| (r.value.first(), r.value.last())))
    }

    fn read_ports(&mut self) -> Option<(u16, u16)> {
        let ports = self.section.value::<PortRange>("ports")?;
        let span = self.section.span_of("ports");
        if ports.first() == 0 {
            let hint = format!("port 0 is none's: write `1-{}`", ports.last().max(1));
            self.report.error(span, "`ports` has port 0").hint(hint);
        } else if ports.last() - ports.first() < PORTS_FEW {
            self.report.warning(span, "so few ports that many inside ends will get none").hint(
                "an inside end may have one in 128, those that keep its answers on their shard",
            );
        }
        Some((ports.first(), ports.last()))
    }

    fn read_shares(&mut self, pool: &Ranges, ports: Option<(u16, u16)>) -> Shares {
        let (section, key) = (self.section, "subscriber-ports");
        let deterministic = section.flag("deterministic") == Some(true);
        let Some(size) = section.integer(key).and_then(|n| u16::try_from(n).ok()) else {
            for key in ["deterministic", "subscriber-ranges", "log"] {
                if section.has(key) && !section.has("subscriber-ports") {
                    let message = format!("`{key}` without `subscriber-ports`");
                    self.report
                        .error(section.span_of_key(key), message)
                        .hint("say how many ports a range has, or leave it out");
                }
            }
            return Shares::Common;
        };
        if !size.is_power_of_two() {
            let hint =
                format!("write {} or {}", size.next_power_of_two() / 2, size.next_power_of_two());
            self.report
                .error(section.span_of(key), format!("{size} is no power of two"))
                .hint(hint);
            return Shares::Common;
        }
        for key in ["subscriber-ranges", "log"] {
            if deterministic && section.has(key) {
                let message = format!("`{key}` with `deterministic: true`");
                self.report
                    .error(section.span_of_key(key), message)
                    .hint("ranges that follow from addresses are neither given nor logged");
            }
        }
        let most = section.integer("subscriber-ranges").and_then(|n| u16::try_from(n).ok());
        let shares = if deterministic {
            Shares::Computed { size, subscribers: self.internal.clone() }
        } else {
            Shares::Given { size, most: most.unwrap_or(1) }
        };
        let Some(ports) = ports else { return shares };
        let each = shares.per_address(ports);
        if each == 0 {
            let message = format!("`ports` has no whole range of {size}");
            self.report
                .error(section.span_of(key), message)
                .hint("ranges start at a multiple of their size");
        }
        let (room, all) = (u64::from(each) * u64::from(pool.len()), self.internal.len());
        if deterministic && room < u64::from(all) {
            let message = format!("{all} inside addresses, and room for {room}");
            self.report.error(section.span_of_key("deterministic"), message).hint(
                "more outside addresses, smaller ranges, or only the subscribers under `internal`",
            );
        }
        shares
    }

    fn read_one_to_one(&mut self, pool: &Ranges) -> OneToOne {
        let mut all = OneToOne::default();
        let mut inside: Vec<AddressRange> = Vec::new();
        for pair in self.section.sections("one-to-one") {
            let spanned = |key| {
                let value = pair.value::<AddressRange>(key)?;
                Some(Spanned::new(value, pair.span_of(key)))
            };
            let (Some(external), Some(internal)) = (spanned("external"), spanned("internal"))
            else {
                continue;
            };
            if external.value.len() != internal.value.len() {
                let (e, i) = (external.value.len(), internal.value.len());
                let message = format!("{e} outside addresses for {i} inside ones");
                self.report
                    .error(internal.span, message)
                    .hint("as many of the one as of the other");
                continue;
            }
            self.check_inside(&internal);
            if let Some(other) = inside.iter().find(|r| r.overlaps(internal.value)) {
                let message = format!("{other} has an outside address already");
                self.report.error(internal.span, message);
            }
            inside.push(internal.value);
            if pool.overlaps(external.value.first(), external.value.last()) {
                self.report
                    .error(external.span, format!("{} is in the pool", external.value))
                    .hint("an address that stands for one host has no ports to give to others");
                continue;
            }
            self.take_outside("the one-to-one address of a nat", &external);
            let count = u32::try_from(external.value.len()).unwrap_or(u32::MAX);
            all.add(external.value.first(), internal.value.first(), count);
        }
        all
    }

    fn read_forwards(&mut self, pool: &Ranges) -> Forwards {
        let mut all = Forwards::default();
        for forward in self.section.sections("forwards") {
            let (Some(ports), Some(to)) =
                (forward.value::<PortRange>("port"), forward.value::<IpAddr>("to"))
            else {
                continue;
            };
            let IpAddr::V4(to) = to else {
                let message = "a port is forwarded to an IPv4 address";
                self.report
                    .error(forward.span_of("to"), message)
                    .hint("IPv6 hosts are reached by their own ports: see `prefixes`");
                continue;
            };
            if !self.internal.has(to) {
                self.not_inside(forward.span_of("to"), &to);
            }
            let first = match forward.integer("to-port") {
                Some(port) => u16::try_from(port).unwrap_or_default(),
                None if forward.has("to-port") => continue,
                None => ports.first(),
            };
            if ports.first() == 0 {
                self.report.error(forward.span_of("port"), "port 0 is none's");
                continue;
            }
            if first.checked_add(ports.last() - ports.first()).is_none() {
                let message = "the inside ports would end behind 65535";
                self.report.error(forward.span_of("to-port"), message);
                continue;
            }
            let Some(listens) = self.read_listens(&forward, pool) else { continue };
            for proto in forward.values::<String>("protocol") {
                let proto = if proto.value == "udp" { protocol::UDP } else { protocol::TCP };
                let ports_of =
                    |port: u16| (port, End { address: to, port: first + (port - ports.first()) });
                let taken = (ports.first()..=ports.last())
                    .map(ports_of)
                    .find(|(port, to)| !all.add(proto, listens, *port, *to));
                if let Some((port, _)) = taken {
                    let message = format!("port {port} is forwarded already");
                    self.report
                        .error(forward.span_of("port"), message)
                        .hint("a port of an outside address leads to one inside end");
                }
            }
            if let Listens::Own(address) = listens {
                self.claim_ports(&forward, address, ports);
            }
        }
        all
    }

    fn read_listens(&mut self, forward: &Section<'_>, pool: &Ranges) -> Option<Listens> {
        let span = forward.span_of("external");
        match forward.value::<IpAddr>("external") {
            Some(IpAddr::V4(address)) if pool.has(address) => Some(Listens::PoolAddress(address)),
            Some(IpAddr::V4(address)) => {
                self.check_outside(span, address, address);
                Some(Listens::Own(address))
            }
            Some(IpAddr::V6(_)) => {
                self.report.error(span, "a port is forwarded from an IPv4 address");
                None
            }
            None if forward.has("external") => None,
            None if pool.is_empty() => {
                self.report
                    .error(forward.span(), "a forward without an outside address")
                    .hint("give it `external`, or give the nat a pool");
                None
            }
            None => Some(Listens::Pool),
        }
    }

    /// Takes the ports of an address that is not the pool's.
    fn claim_ports(&mut self, forward: &Section<'_>, address: Ipv4Addr, ports: PortRange) {
        let span = forward.span_of("external");
        for proto in forward.values::<String>("protocol") {
            let proto = if proto.value == "udp" { protocol::UDP } else { protocol::TCP };
            let what = "a forward of a nat";
            let (first, last) = (address.into(), address.into());
            let ports = Some((proto, ports));
            if !self.claim(Claim { what, first, last, ports, span }) {
                return;
            }
        }
    }

    fn read_prefixes(&mut self) -> Vec<PrefixPair> {
        let mut all: Vec<PrefixPair> = Vec::new();
        let mut seen: Vec<IpNet> = Vec::new();
        for pair in self.section.sections("prefixes") {
            let (Some(inside), Some(outside)) =
                (pair.value::<Prefix>("internal"), pair.value::<Prefix>("external"))
            else {
                continue;
            };
            let (IpNet::V6(inside), IpNet::V6(outside)) = (inside.net(), outside.net()) else {
                self.report.error(pair.span(), "only prefixes of IPv6 stand for one another").hint(
                    "of IPv4: `one-to-one: [ {external: 203.0.113.0/28, internal: 10.0.0.0/28} ]`",
                );
                continue;
            };
            let span = pair.span_of("external");
            let Some(read) = PrefixPair::new(inside, outside) else {
                let (a, b) = (inside.prefix_len(), outside.prefix_len());
                let message = if a == b {
                    format!("a prefix of {a} bits is too long")
                } else {
                    format!("a prefix of {b} bits for one of {a}")
                };
                let hint = format!("both of one length, at most /{LENGTH_MAX}");
                self.report.error(span, message).hint(hint);
                continue;
            };
            for (net, key) in [(IpNet::V6(inside), "internal"), (IpNet::V6(outside), "external")] {
                let overlaps = |other: &&IpNet| other.contains(&net) || net.contains(*other);
                if let Some(other) = seen.iter().find(overlaps) {
                    let message = format!("{net} overlaps {other}");
                    self.report
                        .error(pair.span_of(key), message)
                        .hint("no address may stand for two");
                }
                seen.push(net);
            }
            let (first, last) = (outside.network().into(), outside.broadcast().into());
            self.claim(Claim { what: "the prefix of a nat", first, last, ports: None, span });
            all.push(read);
        }
        all
    }

    fn check_use(&mut self) {
        let keys = ["external", "forwards", "one-to-one", "prefixes"];
        if keys.iter().all(|key| !self.section.has(key)) {
            self.report
                .error(self.section.span(), "a nat that translates nothing")
                .hint("give it `external`, the addresses that stand for the inside");
        }
    }

    /// Takes outside addresses for this function.
    fn take_outside(&mut self, what: &'static str, range: &Spanned<AddressRange>) {
        let (first, last, span) = (range.value.first(), range.value.last(), range.span);
        if self.check_outside(span, first, last) {
            let (first, last) = (first.into(), last.into());
            self.claim(Claim { what, first, last, ports: None, span });
        }
    }

    fn claim(&mut self, claim: Claim) -> bool {
        let Err(earlier) = self.around.claims.take(claim) else { return true };
        let addresses = if claim.first == claim.last {
            claim.first.to_string()
        } else {
            format!("{}-{}", claim.first, claim.last)
        };
        let message =
            format!("{addresses} overlaps {} in line {}", earlier.what, earlier.span.line);
        self.report.error(claim.span, message).hint("an outside address is one function's");
        false
    }

    /// Whether addresses can stand for inside ones.
    fn check_outside(&mut self, span: Span, first: Ipv4Addr, last: Ipv4Addr) -> bool {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if self.internal.overlaps(first, last) {
            self.report.error(span, format!("{range} is in an internal prefix")).hint(
                "outside addresses are others than those that they stand for; see `internal`",
            );
            return false;
        }
        let is_own = |address: Ipv4Addr| {
            let headers = Headers { kind: L3::Ipv4, dst: wide(address), ..Headers::default() };
            self.around.routes.is_some_and(|table| table.is_own(&headers))
        };
        let few = (first.to_bits()..=last.to_bits()).take(ADDRESSES_MAX as usize);
        if let Some(own) = few.map(Ipv4Addr::from_bits).find(|a| is_own(*a)) {
            self.report.error(span, format!("{own} is an address of the box itself")).hint(
                "what is for it goes to the kernel: take an address that is routed to the box",
            );
            return false;
        }
        true
    }

    fn check_inside(&mut self, range: &Spanned<AddressRange>) {
        let all = range.value.addresses().take(ADDRESSES_MAX as usize + 1);
        if !all.into_iter().all(|a| self.internal.has(a)) {
            self.not_inside(range.span, &range.value);
        }
    }

    fn not_inside(&mut self, span: Span, what: &dyn std::fmt::Display) {
        self.report
            .error(span, format!("{what} is not in an internal prefix"))
            .hint("name its prefix under `internal`");
    }
}

/// RFC 1918, and RFC 6598's for what is behind a carrier's NAT.
const PRIVATE: [([u8; 4], [u8; 4]); 4] = [
    ([10, 0, 0, 0], [10, 255, 255, 255]),
    ([172, 16, 0, 0], [172, 31, 255, 255]),
    ([192, 168, 0, 0], [192, 168, 255, 255]),
    ([100, 64, 0, 0], [100, 127, 255, 255]),
];
/// The secret of replays, which nobody attacks.
const REPLAYED: [u64; 2] = [0x6e66_7620_7265_706d, 0x6c61_7965_642e_2e2f];
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// Eight for each class, on average.
const PORTS_FEW: u16 = 1023;
