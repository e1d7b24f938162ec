//! A record as lines of JSON: what all records have, then what each is about.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::community::{Ends, Order, community_id, icmp_ports};
use super::json::{Object, object};
use super::protocol::protocol_name;
use super::record::{Body, Head, Kind, Record, Variables};
use super::settings::{DnsVersion, Settings};
use super::time::stamp;

impl Record {
    /// Writes it behind `out`: mostly one line; of a DNS request in the old form one a query.
    pub fn write(&self, settings: &Settings, out: &mut Vec<u8>) {
        let kind = self.body.kind();
        let line = |out: &mut Vec<u8>, write: &dyn Fn(&mut Object<'_>)| {
            object(out, |o| {
                self.head.write(kind, settings, o);
                write(o);
            });
            out.push(b'\n');
        };
        match &self.body {
            Body::Alert(alert) => line(out, &|o| alert.write(&self.head, settings, o)),
            Body::Drop(drop) => line(out, &|o| drop.write(&self.head, settings, o)),
            Body::Flow(flow) => {
                object(out, |o| {
                    self.head.write_flow(flow.response_icmp, o);
                    flow.write(|o| self.head.write_common(settings, o), o);
                });
                out.push(b'\n');
            }
            Body::Http(http) => {
                let is_extended = settings.http.as_ref().is_none_or(|http| http.extended);
                line(out, &|o| http.write(is_extended, o));
            }
            Body::Dns(dns) => match settings.dns.as_ref().map(|dns| dns.version) {
                Some(DnsVersion::V2) => {
                    for query in 0..dns.lines_of_old_form() {
                        line(out, &|o| dns.write_old(query, settings, o));
                    }
                }
                _ => line(out, &|o| dns.write(settings, o)),
            },
            Body::Tls(tls) => line(out, &|o| tls.write(settings, o)),
            Body::Ssh(ssh) => line(out, &|o| ssh.write(o)),
            Body::Anomaly(anomaly) => line(out, &|o| anomaly.write(o)),
            Body::Stats(stats) => line(out, &|o| stats.write(o)),
            Body::Packet(packet) => line(out, &|o| write_frame(&packet.frame, o)),
        }
    }
}

impl Head {
    /// What comes before the body of records of packets and of transactions.
    fn write(&self, kind: Kind, settings: &Settings, o: &mut Object<'_>) {
        o.string("timestamp", &stamp(self.time));
        if kind == Kind::Stats {
            o.string("event_type", kind.name());
            return;
        }
        self.write_origin(o);
        if let Some(place) = self.pcap_cnt {
            o.number("pcap_cnt", place);
        }
        o.string("event_type", kind.name());
        self.write_ends(o);
        if let Some(protocol) = self.protocol {
            o.string("proto", &protocol_name(protocol));
        }
        self.write_version(o);
        if let Some((icmp_type, icmp_code)) = self.icmp {
            o.number("icmp_type", icmp_type);
            o.number("icmp_code", icmp_code);
        }
        o.string("pkt_src", self.source.name());
        self.write_common(settings, o);
        if let Some(transaction) = self.transaction.filter(|_| kind != Kind::Dns) {
            o.number("tx_id", transaction);
        }
    }

    /// The same of a flow, which has no packet.
    fn write_flow(&self, response_icmp: Option<(u8, u8)>, o: &mut Object<'_>) {
        o.string("timestamp", &stamp(self.time));
        self.write_origin(o);
        o.string("event_type", Kind::Flow.name());
        self.write_ends(o);
        self.write_version(o);
        if let Some(protocol) = self.protocol {
            o.string("proto", &protocol_name(protocol));
        }
        if let Some((icmp_type, icmp_code)) = self.icmp {
            o.number("icmp_type", icmp_type);
            o.number("icmp_code", icmp_code);
        }
        if let Some((icmp_type, icmp_code)) = response_icmp {
            o.number("response_icmp_type", icmp_type);
            o.number("response_icmp_code", icmp_code);
        }
    }

    fn write_origin(&self, o: &mut Object<'_>) {
        if let Some(flow) = self.flow_id {
            o.number("flow_id", flow);
        }
        if let Some(port) = &self.in_iface {
            o.string("in_iface", port);
        }
    }

    fn write_ends(&self, o: &mut Object<'_>) {
        if self.vlan.iter().any(Option::is_some) {
            o.list("vlan", |list| self.vlan.iter().flatten().for_each(|id| list.number(*id)));
        }
        write_end("src_ip", "src_port", self.src, self.sport, o);
        write_end("dest_ip", "dest_port", self.dst, self.dport, o);
    }

    fn write_version(&self, o: &mut Object<'_>) {
        if let Some(src) = self.src {
            o.number("ip_v", if src.is_ipv4() { 4u8 } else { 6 });
        }
    }

    /// `traffic`, `metadata`, `community_id`
    fn write_common(&self, settings: &Settings, o: &mut Object<'_>) {
        if let Some(variables) = self.variables.as_ref().filter(|_| settings.metadata) {
            variables.write(o);
        }
        if let (Some(seed), Some(_)) = (settings.community_id, self.flow_id)
            && let Some(ends) = self.ends()
        {
            o.string("community_id", &community_id(ends, seed));
        }
    }

    fn ends(&self) -> Option<Ends> {
        let (src, dst, protocol) = (self.src?, self.dst?, self.protocol?);
        let (ports, order) = match (self.icmp, self.sport, self.dport) {
            (Some((kind, code)), ..) => {
                let (ports, order) = icmp_ports(protocol, kind, code);
                (Some(ports), order)
            }
            (None, Some(sport), Some(dport)) => (Some((sport, dport)), Order::Same),
            _ => (None, Order::Same),
        };
        Some(Ends { src, dst, protocol, ports, order })
    }
}

impl Variables {
    fn write(&self, o: &mut Object<'_>) {
        let traffic =
            |prefix: &'static str| self.bits.iter().filter_map(move |bit| bit.strip_prefix(prefix));
        let kinds = [("id", TRAFFIC_ID), ("label", TRAFFIC_LABEL)];
        if kinds.iter().any(|(_, prefix)| traffic(prefix).next().is_some()) {
            o.object("traffic", |o| {
                for (key, prefix) in kinds {
                    if traffic(prefix).next().is_some() {
                        o.list(key, |list| traffic(prefix).for_each(|name| list.string(name)));
                    }
                }
            });
        }
        let is_plain = |bit: &&str| !bit.starts_with(TRAFFIC_ID) && !bit.starts_with(TRAFFIC_LABEL);
        let plain = || self.bits.iter().map(AsRef::as_ref).filter(is_plain);
        o.object("metadata", |o| {
            if plain().next().is_some() {
                o.list("flowbits", |list| plain().for_each(|bit| list.string(bit)));
            }
            if !self.numbers.is_empty() {
                o.object("flowints", |o| {
                    self.numbers.iter().for_each(|(name, number)| o.number(name, *number));
                });
            }
        });
    }
}

/// An address and, where there is one, a port.
pub(super) fn write_end(
    address_key: &str,
    port_key: &str,
    address: Option<IpAddr>,
    port: Option<u16>,
    o: &mut Object<'_>,
) {
    if let Some(address) = address {
        o.string(address_key, &address_text(address));
    }
    if let Some(port) = port {
        o.number(port_key, port);
    }
}

/// `packet` and `packet_info`
pub(super) fn write_frame(frame: &[u8], o: &mut Object<'_>) {
    o.base64("packet", frame);
    o.object("packet_info", |o| {
        o.number("linktype", ETHERNET);
        o.string("linktype_name", "EN10MB");
    });
}

/// An address as Suricata writes it: of IPv6 all digits.
pub(super) fn address_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let mut text = String::with_capacity(39);
            for (index, group) in address.segments().into_iter().enumerate() {
                let colon = if index == 0 { "" } else { ":" };
                // Into a string: nothing that can fail.
                let _ = write!(text, "{colon}{group:04x}");
            }
            text
        }
    }
}

const TRAFFIC_ID: &str = "traffic/id/";
const TRAFFIC_LABEL: &str = "traffic/label/";

/// Of pcap's link types.
const ETHERNET: u8 = 1;
