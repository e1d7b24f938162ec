//! What may be odd about headers, by the names that rules have for it.

/// The remarks about headers and fragments, as rules name them behind `decode-event:`. They go into
/// [`Setup::events`](crate::ids::rules::Setup::events), beside those of [`events`](crate::ids::detect::events).
pub const HEADER_EVENTS: &[&str] = &[
    "erspan.header_too_small",
    "erspan.unsupported_version",
    "etag.header_too_small",
    "ethernet.pkt_too_small",
    "gre.pkt_too_small",
    "gre.version1_hdr_too_big",
    "gre.wrong_version",
    "icmpv4.ipv4_trunc_pkt",
    "icmpv4.ipv4_unknown_ver",
    "icmpv4.pkt_too_small",
    "icmpv4.unknown_code",
    "icmpv4.unknown_type",
    "icmpv6.experimentation_type",
    "icmpv6.ipv6_trunc_pkt",
    "icmpv6.ipv6_unknown_version",
    "icmpv6.pkt_too_small",
    "icmpv6.unassigned_type",
    "icmpv6.unknown_code",
    "ieee8021ah.header_too_small",
    "ipv4.frag_ignored",
    "ipv4.frag_overlap",
    "ipv4.frag_pkt_too_large",
    "ipv4.hlen_too_small",
    "ipv4.icmpv6",
    "ipv4.iplen_smaller_than_hlen",
    "ipv4.opt_duplicate",
    "ipv4.opt_invalid",
    "ipv4.opt_invalid_len",
    "ipv4.opt_malformed",
    "ipv4.opt_pad_required",
    "ipv4.pkt_too_small",
    "ipv4.trunc_pkt",
    "ipv4.wrong_ip_version",
    "ipv6.data_after_none_header",
    "ipv6.dstopts_only_padding",
    "ipv6.dstopts_unknown_opt",
    "ipv6.exthdr_ah_res_not_null",
    "ipv6.exthdr_dupl_ah",
    "ipv6.exthdr_dupl_dh",
    "ipv6.exthdr_dupl_fh",
    "ipv6.exthdr_dupl_hh",
    "ipv6.exthdr_dupl_rh",
    "ipv6.exthdr_invalid_optlen",
    "ipv6.exthdr_useless_fh",
    "ipv6.fh_non_zero_reserved_field",
    "ipv6.frag_ignored",
    "ipv6.frag_invalid_length",
    "ipv6.frag_overlap",
    "ipv6.frag_pkt_too_large",
    "ipv6.hopopts_only_padding",
    "ipv6.hopopts_unknown_opt",
    "ipv6.icmpv4",
    "ipv6.pkt_too_small",
    "ipv6.rh_type_0",
    "ipv6.trunc_exthdr",
    "ipv6.trunc_pkt",
    "ipv6.wrong_ip_version",
    "ipv6.zero_len_padn",
    "mpls.bad_label_implicit_null",
    "mpls.bad_label_reserved",
    "mpls.bad_label_router_alert",
    "mpls.header_too_small",
    "mpls.pkt_too_small",
    "mpls.unknown_payload_type",
    "nsh.bad_header_length",
    "nsh.header_too_small",
    "nsh.reserved_type",
    "nsh.unknown_payload",
    "nsh.unsupported_type",
    "nsh.unsupported_version",
    "pppoe.pkt_too_small",
    "sctp.pkt_too_small",
    "tcp.hlen_too_small",
    "tcp.opt_duplicate",
    "tcp.opt_invalid_len",
    "tcp.pkt_too_small",
    "too_many_layers",
    "udp.hlen_invalid",
    "udp.hlen_too_small",
    "udp.len_invalid",
    "udp.pkt_too_small",
    "vlan.header_too_small",
    "vlan.too_many_layers",
    "vntag.header_too_small",
];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// All files of Rust below a folder.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let all = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
        all.collect()
    }

    #[test]
    fn what_readers_of_headers_remark_is_known_to_rules() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ids/inspector");
        let mut missing = Vec::new();
        for path in sources(&root.join("decode")) {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["remarks.add(\"", "remarks.fail(\""] {
                for rest in text.split(call).skip(1) {
                    let name = rest.split('"').next().unwrap();
                    if !HEADER_EVENTS.contains(&name) {
                        missing.push(name.to_owned());
                    }
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
        assert!(HEADER_EVENTS.is_sorted(), "in order, each once");
    }
}
