//! From the chain file to what workers share.

use std::net::IpAddr;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use ipnet::IpNet;
use nfv_core::chain::report::Report;
use nfv_core::chain::section::Section;
use nfv_core::chain::value::{Prefix, Size};
use nfv_core::dispatch::Selection;
use nfv_core::nf::{Built, Handle, Named, Purpose, Shard, Surroundings};

use super::coalesce::Coalesce;
use super::counts::{self, Counts};
use super::ends::Site;
use super::keeper::{Keeper, Kept, Shelf};
use super::outer::Over;
use super::seal::{Encrypts, Seal};

/// What all workers of a box share.
#[derive(Debug)]
pub struct Shared {
    /// This box's address.
    pub local: IpAddr,
    /// The other boxes.
    pub peers: Vec<Peer>,
    /// The networks behind them, longest prefix first, each with its peer.
    pub networks: Vec<(IpNet, usize)>,
    /// What is not encoded, if anything.
    pub exclude: Option<Selection>,
    /// In what messages travel.
    pub over: Over,
    /// Bytes of each side of a peer.
    pub memory: usize,
    /// How packets are compressed.
    pub compress: Compress,
    /// zstd's level.
    pub level: i32,
    /// What only the boxes know.
    pub seal: Seal,
    /// For what is hard to guess, and the first epochs.
    pub secret: [u64; 2],
    /// What is sent again when it gets lost.
    pub recover: Recover,
    /// How small messages wait for each other, if they do.
    pub coalesce: Option<Coalesce>,
    /// Whether packets are encoded.
    pub encodes: AtomicBool,
    /// Who opens files, where a peer has some.
    pub keeper: Option<Keeper>,
}

/// Another box.
#[derive(Debug)]
pub struct Peer {
    /// As an operator calls it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// By worker: what passed.
    pub counts: Vec<Counts>,
    /// By worker: reports for its encoder that another one received, and what is wanted of it again.
    pub mail: Vec<ArrayQueue<Mail>>,
    /// Where its logs are kept, if in files.
    pub shelf: Option<Arc<Shelf>>,
    /// Nanoseconds of a round trip to it and back; 0: none was measured.
    round_trip: AtomicU64,
}

impl Peer {
    /// A round trip took so long.
    pub fn measure(&self, nanos: u64) {
        if nanos < ROUND_TRIP_MAX {
            // What was longer is forgotten in a few seconds: queues come and go.
            let before = self.round_trip.load(Ordering::Relaxed);
            self.round_trip.store(nanos.max(before - before / 4), Ordering::Relaxed);
        }
    }

    /// Nanoseconds that packets wait for one that is missing: a round trip, in which it comes if it is asked for, and a
    /// little more.
    pub fn patience(&self) -> u64 {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        LITTLE_MORE + if round_trip == 0 { ROUND_TRIP } else { round_trip }
    }
}

/// A message under way to its worker.
pub type Mail = arrayvec::ArrayVec<u8, MAIL_MAX>;

/// What is sent again when it gets lost between the boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// Nothing.
    Off,
    /// TCP.
    Tcp,
    /// All that is encoded.
    All,
}

/// How packets are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// By zstd, and by LZ4 while a worker is behind.
    Auto,
    /// By zstd.
    Best,
    /// By LZ4.
    Fast,
}

/// Workers that have encoders.
pub const WORKERS_MAX: usize = 16;
const MAIL_MAX: usize = 96;
/// Nanoseconds of a round trip before one was measured, and of the longest that is believed.
const ROUND_TRIP: u64 = 100_000_000;
const ROUND_TRIP_MAX: u64 = 2_000_000_000;
/// What packets wait for besides: with the clock's steps it stays below 10 ms.
const LITTLE_MORE: u64 = 9_000_000;

/// Reads the section.
pub fn build(
    section: &Section<'_>,
    around: Surroundings<'_>,
    report: &mut Report,
) -> Option<Built> {
    let local = section.value::<IpAddr>("local");
    let mut peers: Vec<Peer> = Vec::new();
    let mut networks: Vec<(IpNet, usize)> = Vec::new();
    for one in section.sections("peers") {
        let (Some(name), Some(address)) = (one.text("name"), one.value::<IpAddr>("address")) else {
            continue;
        };
        let span = one.span_of("address");
        if local.is_some_and(|local| local.is_ipv4() != address.is_ipv4()) {
            report
                .error(span, format!("{address} and `local` are not of one family"))
                .hint("the boxes speak to each other over IPv4 or IPv6, whatever the hosts speak");
        }
        if local == Some(address) || peers.iter().any(|p| p.address == address) {
            report.error(span, format!("{address} is another box's address already"));
        }
        for prefix in one.values::<Prefix>("prefixes") {
            let net = prefix.value.net();
            if networks.iter().any(|(other, _)| *other == net) {
                report.error(prefix.span, format!("{net} is behind another peer already"));
            }
            networks.push((net, peers.len()));
        }
        let counts = (0..WORKERS_MAX).map(|_| Counts::default()).collect();
        let mail = (0..WORKERS_MAX).map(|_| ArrayQueue::new(8)).collect();
        let kept = one.record("store").and_then(|store| read_store(&store, report));
        let shelf = kept.map(|kept| Arc::new(Shelf::new(&name, kept)));
        let round_trip = AtomicU64::new(0);
        peers.push(Peer { name, address, counts, mail, shelf, round_trip });
    }
    if peers.is_empty() {
        report.error(section.span_of("peers"), "there is no other box");
    }
    networks.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
    let memory = section.value::<Size>("memory")?.bytes();
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory) {
        report.error(section.span_of("memory"), "a side of a peer has 1MiB to 64GiB");
    }
    let exclude = if section.has("exclude") {
        Some(Selection::read_key("exclude", section, around, report)?)
    } else {
        None
    };
    let small = |key| section.integer(key);
    let over = match section.choice("over")? {
        "ip" => Over::Ip(u8::try_from(small("protocol")?).ok()?),
        _ => Over::Udp(u16::try_from(small("port")?).ok()?),
    };
    let other = if matches!(over, Over::Ip(_)) { "port" } else { "protocol" };
    if section.has(other) {
        let message = format!("`{other}` does not go with `over`");
        report
            .error(section.span_of_key(other), message)
            .hint("`over: udp` has a `port`, `over: ip` a `protocol`");
    }
    let compress = match section.choice("compress")? {
        "best" => Compress::Best,
        "fast" => Compress::Fast,
        _ => Compress::Auto,
    };
    let recover = match section.choice("recover")? {
        "tcp" => Recover::Tcp,
        "all" => Recover::All,
        _ => Recover::Off,
    };
    let coalesce = section.record("coalesce").and_then(|one| {
        let delay = one.value::<Duration>("delay")?;
        if delay.is_zero() || delay > DELAY_MAX {
            report.error(one.span_of("delay"), "messages wait for each other up to 100ms");
        }
        let delay = u64::try_from(delay.as_nanos()).ok()?;
        Some(Coalesce { delay, mtu: usize::try_from(one.integer("mtu")?).ok()? })
    });
    let level = i32::try_from(small("level")?).ok()?;
    let encrypts = match section.choice("encrypt")? {
        "yes" => Encrypts::Messages,
        _ => Encrypts::Nothing,
    };
    let key = section.text("key-file").map(|file| (read_key(file.as_ref()), file));
    let key = match key {
        None if encrypts == Encrypts::Messages => {
            report
                .error(section.span_of("encrypt"), "there is no key to encrypt with")
                .hint("name a `key-file`");
            None
        }
        None => None,
        Some((Ok(key), _)) => Some(key),
        Some((Err(why), file)) => {
            report
                .error(section.span_of("key-file"), format!("{file}: {why}"))
                .hint("make one by `head -c 16 /dev/urandom | xxd -p > FILE`, for both boxes");
            None
        }
    };
    if report.has_errors() {
        return None;
    }
    let (secret, realm) = match around.purpose {
        // The same every time; so what is encrypted is so by another key.
        Purpose::Replay | Purpose::Check => ([1, 2], "replay"),
        Purpose::Run => (random(section, report)?, "run"),
    };
    let shelves: Vec<_> = peers.iter().map(|peer| peer.shelf.clone()).collect();
    let keeper = match around.purpose {
        Purpose::Run if shelves.iter().any(Option::is_some) => match Keeper::start(shelves) {
            Ok(keeper) => Some(keeper),
            Err(why) => {
                report.error(section.span_of("peers"), format!("no thread for the stores: {why}"));
                return None;
            }
        },
        _ => None,
    };
    let shared = Arc::new(Shared {
        keeper,
        local: local?,
        peers,
        networks,
        exclude,
        over,
        memory: usize::try_from(memory).ok()?,
        compress,
        level,
        seal: key.map_or(Seal::new([0; 16]), |key| Seal::of(key, realm, encrypts)),
        secret,
        recover,
        coalesce,
        encodes: AtomicBool::new(true),
    });
    let handles = handles(&shared);
    let make = move |worker: Shard| Site::new(shared.clone(), worker);
    Some(Built::packet_of(make).with_handles(handles))
}

fn handles(shared: &Arc<Shared>) -> Vec<Handle> {
    let (shown, changed, listed) = (shared.clone(), shared.clone(), shared.clone());
    vec![
        Handle {
            named: Named { name: "encoding", help: "`on` | `off`: packets go as they are" },
            read: Box::new(move || {
                let on = shown.encodes.load(Ordering::Relaxed);
                if on { "on" } else { "off" }.to_owned()
            }),
            write: Some(Box::new(move |text| {
                let on = match text {
                    "on" => true,
                    "off" => false,
                    _ => return Err("it is `on` or `off`".to_owned()),
                };
                changed.encodes.store(on, Ordering::Relaxed);
                Ok(())
            })),
        },
        Handle {
            named: Named { name: "peers", help: "a line for each peer" },
            read: Box::new(move || {
                let line = |peer: &Peer| counts::line(&peer.name, peer.address, &peer.counts);
                listed.peers.iter().map(line).collect::<Vec<_>>().join("\n")
            }),
            write: None,
        },
    ]
}

/// Reads where a peer's logs are kept.
fn read_store(section: &Section<'_>, report: &mut Report) -> Option<Kept> {
    let (folder, size) = (section.text("folder")?, section.value::<Size>("size")?.bytes());
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&size) {
        report.error(section.span_of("size"), "a side of a peer has 1MiB to 64GiB");
    }
    let folder = FilePath::new(&folder);
    if !folder.is_dir() {
        let message = format!("{} is no folder", folder.display());
        report.error(section.span_of("folder"), message).hint("make it, for this function only");
    }
    Some(Kept { folder: folder.to_owned(), size: usize::try_from(size).ok()? })
}

/// Reads 32 hexadecimal digits.
fn read_key(file: &FilePath) -> Result<[u8; 16], String> {
    let text = std::fs::read_to_string(file).map_err(|why| why.to_string())?;
    let number = u128::from_str_radix(text.trim(), 16).ok().filter(|_| text.trim().len() == 32);
    match number {
        Some(0) => Err("it is all zeros, which stands for no key".to_owned()),
        Some(number) => Ok(number.to_be_bytes()),
        None => Err("it does not have 32 hexadecimal digits".to_owned()),
    }
}

fn random(section: &Section<'_>, report: &mut Report) -> Option<[u64; 2]> {
    let mut bytes = [0; 16];
    if let Err(why) = getrandom::fill(&mut bytes) {
        let message = format!("the kernel has no random numbers: {why}");
        report.error(section.span_of("local"), message);
        return None;
    }
    let (words, _) = bytes.as_chunks::<8>();
    let mut all = words.iter().map(|word| u64::from_le_bytes(*word));
    all.next().zip(all.next()).map(|(a, b)| [a, b])
}

/// That messages wait for each other.
const DELAY_MAX: Duration = Duration::from_millis(100);
const MEMORY_MIN: u64 = 1 << 20;
const MEMORY_MAX: u64 = 64 << 30;
