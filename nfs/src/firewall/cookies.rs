//! The key `syn-cookies`: from when on connections begin with cookies, and what the servers behind them support.

use std::hash::{BuildHasher, RandomState};

use nfv_core::chain::key::{Key, Need, Shape, Table};
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::nf::{Purpose, Surroundings, SynCookies};
use nfv_core::packet::syn_cookie::{CookieKey, Server};
use nfv_core::packet::tcp_build::Ecn;

/// The key `syn-cookies` of a firewall.
pub const KEY: Key = Key {
    name: "syn-cookies",
    shape: Shape::RecordOr {
        short: "half-open",
        table: &Table {
            what: "SYN cookies",
            groups: &[&[
                Key {
                    name: "half-open",
                    shape: Shape::Integer { min: 0, max: 100_000_000 },
                    need: Need::Default("4096"),
                    help: "half-open connections from which on SYNs are answered with cookies; 0: always",
                },
                Key {
                    name: "mss",
                    shape: Shape::Integer { min: 216, max: 65_495 },
                    need: Need::Default("1460"),
                    help: "most bytes of data in a segment to the servers, of IPv4; of IPv6 20 less",
                },
                Key {
                    name: "timestamps",
                    shape: Shape::Flag,
                    need: Need::Default("false"),
                    help: "all servers behind it have TCP timestamps",
                },
                Key {
                    name: "sack",
                    shape: Shape::Flag,
                    need: Need::Default("false"),
                    help: "all of them take selective acknowledgements; with `timestamps: true`",
                },
                Key {
                    name: "window-scale",
                    shape: Shape::Integer { min: 0, max: 14 },
                    need: Need::Optional,
                    help: "the window scale that all of them have; with `timestamps: true`",
                },
            ]],
        },
    },
    need: Need::Optional,
    help: "answer SYNs with cookies while too many connections are half open; with `stateful: true`",
};

/// Those of a firewall, if it gives any. `before`: the key of the one that it replaces, whose cookies are under way.
pub fn read(
    section: &Section<'_>,
    around: Surroundings<'_>,
    before: Option<CookieKey>,
    report: &mut Report,
) -> Option<SynCookies> {
    let record = section.record("syn-cookies")?;
    let timestamps = record.flag("timestamps") == Some(true);
    let sack = record.flag("sack") == Some(true);
    for (key, said) in [("sack", sack), ("window-scale", record.has("window-scale"))] {
        if said && !timestamps {
            report
                .error(record.span_of_key(key), format!("`{key}` without `timestamps: true`"))
                .hint("it does not fit into a cookie: it is kept in the timestamp that the client echoes");
        }
    }
    let number = |key| record.integer(key);
    let window_scale = number("window-scale").and_then(|scale| u8::try_from(scale).ok());
    let mss = u16::try_from(number("mss")?).ok()?;
    let server = Server { mss, window_scale, sack, timestamps, ecn: Ecn::No };
    let half_open = u32::try_from(number("half-open")?).ok()?;
    let key = before.unwrap_or_else(|| CookieKey::new(random(around.purpose)));
    Some(SynCookies { half_open, server, key, counters: 0 })
}

/// From the machine's own source; for a replay, which makes the same packets each time, always the same.
fn random(purpose: Purpose) -> [u64; 4] {
    match purpose {
        Purpose::Replay => [1, 2, 3, 4],
        Purpose::Check | Purpose::Run => [1, 2, 3, 4].map(|i: u64| RandomState::new().hash_one(i)),
    }
}
