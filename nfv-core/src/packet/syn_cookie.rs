//! SYN cookies: a proxy's first sequence number says, to the proxy alone, what it would else have to keep.
//!
//! ```text
//! 31    27 26  24 23                                            0
//! | count | class | hash of both ends, client ISN, count, class |   + hash of both ends + client ISN = our ISN
//! ```
//!
//! The layout is Bernstein's (cr.yp.to/syncookies.html), the second hash and the client's ISN are added as Linux does, so
//! that counts and classes cannot be told from outside, and numbers of one conversation go up with the client's. All of
//! the count is hashed, not only the five bits that are sent: no cookie becomes good again after 34 minutes.
//!
//! What a guess is worth: of 2^32 numbers 24 are right (3 counts, 8 classes), one ACK in 180 million. There is no state
//! to fill up, so what a lucky one gets is one connection to the server from an address that is not its own.
//!
//! Window scale, SACK and ECN do not fit. As in Linux they go into the low six bits of our timestamp, which the client
//! echoes; to a client without timestamps none of them is offered.
//! Rejected: a table of half-open connections, which is what a flood fills.

use std::fmt;

use siphasher::sip::SipHasher24;
use zerocopy::{Immutable, IntoBytes};

use super::tcp_build::{Ecn, Opened, Syn, SynOptions};
use super::{Headers, L3};

/// The secret of a proxy's cookies. All workers that may see a conversation's packets have the same one.
#[derive(Clone)]
pub struct CookieKey {
    mask: SipHasher24,
    proof: SipHasher24,
}

/// Never shown: who knows it opens connections in any name.
impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

/// Time in steps of 64 s, in which cookies grow old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CookieCount(u64);

impl CookieCount {
    /// The step in which a second lies; seconds since whenever, as long as they go on evenly.
    #[inline]
    pub fn at(seconds: u64) -> Self {
        Self(seconds / STEP_SECONDS)
    }
}

/// What the servers behind a proxy support. The client is promised it before they are asked, so it must be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Most bytes of data in a segment to it.
    pub mss: u16,
    /// Its own window scale; `None`: it has none.
    pub window_scale: Option<u8>,
    /// Whether it takes selective acknowledgements.
    pub sack: bool,
    /// Whether it has timestamps; without them there is no window scale, SACK or ECN either.
    pub timestamps: bool,
    /// Whether it takes part in ECN.
    pub ecn: Ecn,
}

impl CookieKey {
    /// `random`: from the system's source, anew at each start.
    pub fn new(random: [u64; 4]) -> Self {
        let [m0, m1, p0, p1] = random;
        Self { mask: SipHasher24::new_with_keys(m0, m1), proof: SipHasher24::new_with_keys(p0, p1) }
    }

    /// Our first sequence number in answer to a client's SYN.
    ///
    /// `headers`: of the SYN. Of the client's MSS it keeps the next lower one of eight.
    /// # Cost
    /// Two SipHash-2-4 over 50 bytes: 44 ns (a shared AMD EPYC).
    pub fn make(&self, headers: &Headers, syn: &Syn, now: CookieCount) -> u32 {
        let (classes, without) = mss_classes(headers.kind);
        let mss = syn.options.mss.unwrap_or(without);
        let fits = (0..).zip(classes).take_while(|(_, of)| **of <= mss);
        let class = fits.last().map_or(0, |(class, _)| class);
        let plain = self.plain(headers, syn.client_isn, class, now);
        plain.wrapping_add(self.offset(headers, syn.client_isn))
    }

    /// The client's MSS, or somewhat less, when its ACK answers a cookie that [`make`](Self::make) made, now or at most
    /// two steps ago: 128 to 192 s.
    ///
    /// `headers`: of the ACK. The same ACK again is right again: the caller's flows tell it apart.
    /// # Cost
    /// As [`make`](Self::make).
    pub fn check(&self, headers: &Headers, opened: &Opened, now: CookieCount) -> Option<u16> {
        let client_isn = opened.client_isn;
        let plain = opened.server_isn.wrapping_sub(self.offset(headers, client_isn));
        let class = (plain >> HASH_BITS) & CLASS_MASK;
        let age = (now.0 & COUNT_MASK).wrapping_sub(u64::from(plain >> COUNT_SHIFT)) & COUNT_MASK;
        if age > AGE_MAX {
            return None;
        }
        let class = u8::try_from(class).ok()?;
        let made = CookieCount(now.0.checked_sub(age)?);
        let (classes, _) = mss_classes(headers.kind);
        let mss = classes.get(usize::from(class))?;
        (self.plain(headers, client_isn, class, made) == plain).then_some(*mss)
    }

    /// A cookie's three parts.
    fn plain(&self, headers: &Headers, client_isn: u32, class: u8, count: CookieCount) -> u32 {
        let hash =
            low_half(self.proof.hash(Hashed::new(headers, client_isn, class, count).as_bytes()));
        let [.., five] = (count.0 & COUNT_MASK).to_be_bytes();
        u32::from(five) << COUNT_SHIFT | u32::from(class) << HASH_BITS | hash & HASH_MASK
    }

    /// What is added to it.
    fn offset(&self, headers: &Headers, client_isn: u32) -> u32 {
        let hashed = Hashed::new(headers, 0, 0, CookieCount(0));
        low_half(self.mask.hash(hashed.as_bytes())).wrapping_add(client_isn)
    }
}

impl Syn {
    /// What is answered to this SYN, in the server's name.
    ///
    /// `clock`: milliseconds, from any start; what the client will take for the server's clock.
    pub fn answer(&self, server: &Server, clock: u32) -> Self {
        let mss = Some(server.mss);
        let agreed = self.options.timestamps.filter(|_| server.timestamps);
        let Some((theirs, _)) = agreed else {
            // Nothing would remember what else is agreed.
            let options = SynOptions { mss, ..SynOptions::default() };
            return Self { options, ecn: Ecn::No, ..*self };
        };
        let offered = self.options.window_scale.filter(|_| server.window_scale.is_some());
        let sack = self.options.sack && server.sack;
        let ecn = if self.ecn == server.ecn { self.ecn } else { Ecn::No };
        let bits = offered.map_or(NO_SCALE, |scale| u32::from(scale.min(SCALE_MAX)))
            | if sack { SACK_BIT } else { 0 }
            | if ecn == Ecn::Yes { ECN_BIT } else { 0 };
        let options = SynOptions {
            mss,
            window_scale: offered.and(server.window_scale),
            sack,
            timestamps: Some((clock & !STAMP_BITS | bits, theirs)),
        };
        Self { options, ecn, ..*self }
    }
}

impl Opened {
    /// What the client's SYN offered, of which its ACK reminds us: what the server is asked for. `mss`: the cookie's.
    pub fn syn(&self, mss: u16) -> Syn {
        let mut syn = Syn { client_isn: self.client_isn, ..Syn::default() };
        syn.options.mss = Some(mss);
        if let Some((theirs, ours)) = self.timestamps {
            let scale = u8::try_from(ours & NO_SCALE).ok();
            syn.options.window_scale = scale.filter(|scale| u32::from(*scale) != NO_SCALE);
            syn.options.sack = ours & SACK_BIT != 0;
            // In a SYN there is nothing to echo yet (RFC 7323, section 3.2).
            syn.options.timestamps = Some((theirs, 0));
            syn.ecn = if ours & ECN_BIT != 0 { Ecn::Yes } else { Ecn::No };
        }
        syn
    }
}

/// What is hashed, as the client sends it: it is the same in its SYN and in its ACK.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Hashed {
    src: [u8; 16],
    dst: [u8; 16],
    sport: [u8; 2],
    dport: [u8; 2],
    family: u8,
    class: u8,
    client_isn: [u8; 4],
    count: [u8; 8],
}

impl Hashed {
    fn new(headers: &Headers, client_isn: u32, class: u8, count: CookieCount) -> Self {
        Self {
            src: headers.src.0,
            dst: headers.dst.0,
            sport: headers.sport.to_be_bytes(),
            dport: headers.dport.to_be_bytes(),
            family: if headers.kind == L3::Ipv6 { 6 } else { 4 },
            class,
            client_isn: client_isn.to_be_bytes(),
            count: count.0.to_be_bytes(),
        }
    }
}

fn low_half(hash: u64) -> u32 {
    let [.., a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The MSS of each class, and the one of a SYN that says none (RFC 9293, section 3.7.1).
fn mss_classes(kind: L3) -> (&'static [u16; 8], u16) {
    match kind {
        L3::Ipv6 => (&MSS_V6, 1220),
        _ => (&MSS_V4, 536),
    }
}

/// Ethernet and jumbo frames whole, PPPoE and common tunnels nearly so; who says less than the first gets the first.
const MSS_V4: [u16; 8] = [216, 536, 1200, 1360, 1400, 1452, 1460, 8960];
/// The same for headers that are 20 bytes longer, and IPv6's smallest MTU.
const MSS_V6: [u16; 8] = [216, 536, 1220, 1340, 1380, 1432, 1440, 8940];

const STEP_SECONDS: u64 = 64;
/// Steps after which a cookie is still good.
const AGE_MAX: u64 = 2;

const HASH_BITS: u32 = 24;
const HASH_MASK: u32 = (1 << HASH_BITS) - 1;
const CLASS_MASK: u32 = 0x7;
const COUNT_SHIFT: u32 = 27;
const COUNT_MASK: u64 = 0x1f;

// The low bits of our timestamp.
const STAMP_BITS: u32 = 0x3f;
const NO_SCALE: u32 = 0xf;
const SCALE_MAX: u8 = 14;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;

#[cfg(test)]
mod tests;
