//! `ids`: looks into packets and streams for what rules of the Suricata and Snort language describe, and drops or tells.
//!
//! ```text
//!     in ---->[ ids ]----> next      kind: packet NF
//!                |
//!                +--- records ---> EVE JSON: a file, or a socket
//!
//! Keys   rules           none     files of rules, one or a list
//!        mode            inline   `inline`: drop and reject take effect on the packet that completes the match |
//!                                 `passive`: packets go on at once, an analyser on another core looks at them
//!        analyser-cpu    none     passive: the CPU of the analyser's thread; without it, the main lcore's
//!        vars            none     `{address-groups: {HOME_NET: 10.0.0.0/8}, port-groups: {HTTP_PORTS: [80, 8080]}}`
//!        suricata-yaml   none     a suricata.yaml: its vars, stream, defrag, flow-timeouts, app-layer, host-os-policy, vlan,
//!                                 threshold-file and the eve-log of its outputs count, the rest is passed over
//!        suricata-set    none     `{stream.midstream: true}`: words over those of the suricata.yaml, as its `--set`
//!        classification  built in a classification.config
//!        threshold-file  none     a threshold.config: limits of alerts, suppressions and rate filters over those of the rules;
//!                                 without it, that of the suricata.yaml
//!        checksums       check    `check`: packets with wrong checksums are of no stream | `ignore`
//!        bypass          on       `on` | `off`: flows past their depth, or encrypted, pass without being looked at; inline,
//!                                 of a flow one side of which is past its depth, that side's packets
//!        stream          none     `{midstream: false, async-oneside: false, depth: 1MiB, hosts: {linux: 10.0.0.0/8}}`
//!        memory          none     `{flows: 128MiB, streams: 256MiB, applications: 128MiB, fragments: 32MiB, log: 64MiB}` of
//!                                 each worker, `{detection: 32MiB}` of all together
//!        log             eve.json `FILE` or `{file: FILE, socket: PATH, types: [alert, drop, flow, http, dns, tls, ssh,
//!                                 anomaly, stats], community-id: false, community-id-seed: 0, payload: false}`
//!        blocklists      none     `[{file: FILE, kind: address | prefix | port | domain, action: drop | alert}]`
//!        database-cache  none     a folder where compiled patterns are kept
//! Drops  rule_drop             a rule with `drop` matches
//!        rule_reject           a rule with `reject` or `rejectsrc` matches; its sender is told
//!        rule_reject_dst       a rule with `rejectdst` matches; its receiver is told
//!        rule_reject_both      a rule with `rejectboth` matches; both are told
//!        flow_dropped          a packet before it made its whole flow be dropped
//!        blocklisted           an end, the port or a name of its flow is on a blocklist
//!        stream_invalid        a segment that no receiver would take
//!        rate_exceeded         a rule's rate filter has it dropped
//! Counts bypassed_packets      packets of flows that need not be looked at any more, which passed it by
//!        rewritten_packets     packets whose bytes were made what passed before
//!        shed_records          records that found no room in the log's queue
//!        shed_copies           passive: packets that the analyser had no time for
//!        copied_packets        passive: packets that the analyser was given
//! ```
//!
//! Rules, logs and the words of both are Suricata's: what reads an `eve.json` reads this one. `nfv check` says how many rules
//! were loaded, and which were not: skipped, as they ask for what there is not, with the keyword, or broken. A broken rule
//! never stops the others. Each rule that drops has a counter. `$HOME_NET` and its like are as Suricata delivers them where
//! nobody says otherwise.
//!
//! The lines of a threshold file are told as rules are: `threshold` and `event_filter` limit the alerts of a rule, whose own
//! limit they replace, `suppress` has none told, of all or of some addresses, and what the rule does is done all the same;
//! `rate_filter` gives matches beyond so many in so many seconds another action for a while. `sig_id 0` is all rules of a
//! group that have no limit yet, `gen_id 0` all groups.
//!
//! Frames whose headers cannot be read are dropped before any function; rules with `decode-event` find them all the same.
//!
//! Streams are put together as their receivers do (`hosts`), whatever the order of segments and fragments. A packet is
//! dropped before anything of it leaves; and where a segment says something else than what passed before it, its bytes
//! are made the same, so that nobody behind sees what was not looked at; one that came in fragments or a tunnel is dropped.
//!
//! `reject` sends TCP a reset, and others an ICMP error "administratively prohibited": at most 1,000 a second and worker. Passive, it is
//! told and nobody hears of it: the packet is gone.
//!
//! In a chain that keeps flows (a stateful firewall, a NAT), packets of bypassed flows pass by a bit that lies with the flow,
//! and cost the chain next to nothing; but what begins or ends a connection is always looked at, and of each flow a packet
//! every half a minute. What passes by is not in flow records. Only one `ids` of a chain does so; in other chains bypassed
//! packets cost a look-up. Of a connection one side of which is past its depth, such as a download, that side's packets pass
//! by and the other's do not, so that the next request is looked at; passive, all are looked at until both are. In the middle of a chain an `ids` cuts it, as any NF does that sees packets: before or behind its
//! flow NFs it does not.
//!
//! A blocklist has an address, prefix, port, range of ports or domain a line, up to 1,000,000; `#` and `;` begin comments. A
//! flow's first packet is looked up by both addresses and by the port that it asks for, a domain wherever DNS asks for it, TLS
//! names it or HTTP has it as host, with all names below it. What is found is told as an alert of group 1000, numbered by
//! the place of the list.
//!
//! `nfv reload`, or SIGHUP, reads rules, blocklists and all other files again that have changed; streams go on where neither
//! `stream`, `memory`, `mode` nor another key about how they are followed has changed. SIGHUP also opens the log again, which
//! may have been moved. A replay writes to its folder, DIR/eve.json.
//!
//! Records are made by the workers and written by a thread of their own; a disk that is too slow, or a socket or a FIFO that
//! nobody reads, costs records, which are counted, and no packet.

pub mod app;
mod beside;
pub mod blocklist;
pub mod buffer;
mod config;
pub mod detect;
pub mod eve;
pub mod inspector;
mod nf;
mod output;
mod passive;
mod reasons;
pub mod rules;
pub mod stream;

use nfv_core::nf::{Kind, Profile};

/// The type of NF `ids`.
pub const KIND: Kind = Kind {
    name: "ids",
    profile: Profile {
        reads_payload: true,
        writes: true,
        drops: true,
        creates: false,
        routes: false,
    },
    keys: config::KEYS,
    drops: reasons::DROPS,
    answers: reasons::ANSWERS,
    counters: reasons::COUNTERS,
    source: include_str!("mod.rs"),
    build: nf::build,
};
