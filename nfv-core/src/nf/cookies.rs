//! SYN cookies as an NF asks for them: the engine, which keeps the flows, gives them and takes them back.

use super::Named;
use crate::clock::Time;
use crate::packet::syn_cookie::{CookieCount, CookieKey, Server};
use crate::packet::tcp_build::{Opened, Syn, syn_ack};
use crate::packet::{Headers, L3};

/// Has SYNs answered with cookies while too many connections are half open ([`Built::with_syn_cookies`]).
///
/// [`Built::with_syn_cookies`]: super::Built::with_syn_cookies
#[derive(Clone, Debug)]
pub struct SynCookies {
    /// Half-open connections from which on SYNs get cookies, of all workers together; 0: all SYNs do.
    pub half_open: u32,
    /// What the servers support; its MSS is that of IPv4.
    pub server: Server,
    /// Of all workers, and of the NF that replaces this one at a reload: cookies are on their way then.
    pub key: CookieKey,
    /// Where in [`Kind::counters`](super::Kind::counters) its [`COUNTERS`](Self::COUNTERS) begin.
    pub counters: usize,
}

impl SynCookies {
    /// What is counted of them.
    pub const COUNTERS: [Named; 3] = [
        Named { name: "cookies_sent", help: "SYNs that were answered with a cookie" },
        Named { name: "cookies_opened", help: "connections that a right cookie opened" },
        Named {
            name: "cookies_unlike",
            help: "of those, servers that are not as `syn-cookies` says",
        },
    ];
    pub(crate) const SENT: usize = 0;
    pub(crate) const OPENED: usize = 1;
    pub(crate) const UNLIKE: usize = 2;

    /// The SYN-ACK to a SYN: its length in `out`. `None`: there is none to be sent.
    pub(crate) fn answer(
        &self,
        packet: &[u8],
        headers: &Headers,
        now: Time,
        out: &mut [u8],
    ) -> Option<usize> {
        let syn = Syn::read(packet, headers)?;
        let cookie = self.key.make(headers, &syn, count_at(now));
        let shorter = if headers.kind == L3::Ipv6 { 20 } else { 0 };
        let server = Server { mss: self.server.mss.saturating_sub(shorter), ..self.server };
        // A client that may send before the server is there would lose what it sends, and wait until it sends it again.
        syn_ack(packet, headers, cookie, &syn.answer(&server, clock(now)), 0, out)
    }

    /// What a client's ACK says, and the SYN that it stands for, if its cookie is right.
    pub(crate) fn open(
        &self,
        packet: &[u8],
        headers: &Headers,
        now: Time,
    ) -> Option<(Opened, Syn)> {
        let opened = Opened::read(packet, headers)?;
        // One byte further on, for who asks whether the window is open still.
        let probe = Opened { client_isn: opened.client_isn.wrapping_add(1), ..opened };
        [opened, probe].into_iter().find_map(|opened| {
            let mss = self.key.check(headers, &opened, count_at(now))?;
            Some((opened, opened.syn(mss)))
        })
    }
}

/// Milliseconds: what clients take for the server's clock.
pub(crate) fn clock(now: Time) -> u32 {
    (now.0 / 1_000_000) as u32
}

fn count_at(now: Time) -> CookieCount {
    CookieCount::at(now.0 / 1_000_000_000)
}
