//! Beside the workers: opens the files of logs, has their pages ready, and what is written on its way to the disk.
//!
//! To open a file is to read all of it, which takes seconds, and a file may be another's still: that of the function that
//! a reload takes the place of. So a worker asks for an end with a file, goes on without it, and finds it when it is there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::build::WORKERS_MAX;
use super::decoder::Decoder;
use super::encoder::{Encoder, Settings};
use super::store::{Found, Names, Store, Tended, Why};

/// Where a peer's logs are kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes of each side's files.
    pub size: usize,
}

/// An end that is wanted with its file.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which side of it.
    pub side: Side,
    /// With what it is made.
    pub settings: Settings,
    /// An epoch that none of the box had before.
    pub epoch: u32,
    /// Of which worker, and which of its peers.
    pub of: (usize, usize),
}

/// A side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The encoder.
    Sent,
    /// A decoder.
    Came,
}

/// An end with its file.
#[derive(Debug)]
pub enum Made {
    /// An encoder.
    Encoder(Box<Encoder>),
    /// A decoder.
    Decoder(Box<Decoder>),
}

/// A peer, as far as its files go.
#[derive(Debug)]
pub struct Shelf {
    /// How an operator calls it, which is in the files' names.
    pub peer: String,
    /// Where they are.
    pub kept: Kept,
    /// By worker: what is ready for it.
    pub made: [ArrayQueue<Made>; WORKERS_MAX],
}

impl Shelf {
    /// With nothing on it.
    pub fn new(peer: &str, kept: Kept) -> Self {
        let made = std::array::from_fn(|_| ArrayQueue::new(2 * WORKERS_MAX));
        Self { peer: peer.to_owned(), kept, made }
    }
}

/// The thread that does it. It ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    inner: Arc<Inner>,
    thread: Thread,
}

#[derive(Debug)]
struct Inner {
    /// By peer; none has no files.
    shelves: Vec<Option<Arc<Shelf>>>,
    wanted: ArrayQueue<Wanted>,
    stops: AtomicBool,
    tended: Mutex<Vec<(Tended, u64)>>,
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// The machine has no more threads.
    pub fn start(shelves: Vec<Option<Arc<Shelf>>>) -> std::io::Result<Self> {
        let wanted = ArrayQueue::new(WORKERS_MAX * (WORKERS_MAX + 1) * shelves.len().max(1));
        let (stops, tended) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let inner = Arc::new(Inner { shelves, wanted, stops, tended });
        let (own, other) = (inner.clone(), inner.clone());
        let builder = || std::thread::Builder::new();
        builder().name("wanopt-pages".to_owned()).spawn(move || other.tend())?;
        let thread = builder().name("wanopt-logs".to_owned()).spawn(move || own.run())?;
        Ok(Self { inner, thread: thread.thread().clone() })
    }

    /// Asks for an end; it will be on its peer's shelf. Not hot.
    pub fn ask(&self, wanted: Wanted) {
        // There is room for all ends that a box can have.
        let _ = self.inner.wanted.push(wanted);
        self.thread.unpark();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inner.stops.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl Inner {
    fn run(&self) {
        let mut open: Vec<(Wanted, Instant, Told)> = Vec::new();
        while !self.stops.load(Ordering::Relaxed) {
            while let Some(wanted) = self.wanted.pop() {
                open.push((wanted, Instant::now(), Told::Nothing));
            }
            open.retain_mut(|(wanted, since, told)| match self.make(wanted) {
                None | Some(Ok(())) => false,
                Some(Err((path, why))) => {
                    // At a reload it is the one before that has it.
                    let waits = why.kind() == std::io::ErrorKind::WouldBlock;
                    if *told == Told::Nothing && (!waits || since.elapsed() > LONG) {
                        let path = path.display();
                        tracing::error!("wanopt: {path}: {why}; nothing is encoded until it opens");
                        *told = Told::Once;
                    }
                    true
                }
            });
            std::thread::park_timeout(if open.is_empty() { IDLE } else { AGAIN });
        }
    }

    /// Opens an end's file. `None`: there is no place for it.
    fn make(&self, wanted: &Wanted) -> Option<Result<(), (PathBuf, std::io::Error)>> {
        let Wanted { side, settings, epoch, of: (worker, peer) } = *wanted;
        let shelf = self.shelves.get(peer)?.as_ref()?;
        let made = shelf.made.get(worker)?;
        let (number, of) = (settings.instance, settings.of.max(1));
        let word = if side == Side::Sent { "sent" } else { "came" };
        // With other workers parts are others.
        let path = shelf.kept.folder.join(format!("{}-{word}-{number}-of-{of}.log", shelf.peer));
        let (sent, came) = (settings.log(epoch), settings.log(!epoch));
        let start = Instant::now();
        let size = shelf.kept.size / usize::from(of);
        let (store, found) = match Store::open(&path, size, Names { sent, came }) {
            Ok(opened) => opened,
            Err(why) => return Some(Err((path, why))),
        };
        let tended = (store.tended(), store.bytes().len() as u64);
        self.tended.lock().unwrap_or_else(PoisonError::into_inner).push(tended);
        let end = match side {
            Side::Sent => Made::Encoder(Box::new(Encoder::stored(settings, epoch, store, found))),
            Side::Came => Made::Decoder(Box::new(Decoder::stored(settings, epoch, store, found))),
        };
        let (path, took) = (path.display(), start.elapsed());
        match found {
            Found::Records { .. } => tracing::info!("wanopt: {path}: goes on, read in {took:?}"),
            Found::Nothing(why @ Why::New) => tracing::info!("wanopt: {path}: begins: {why}"),
            Found::Nothing(why) => tracing::warn!("wanopt: {path}: begins anew: {why}"),
        }
        // There is room for one of each kind.
        let _ = made.push(end);
        Some(Ok(()))
    }

    fn tend(&self) {
        while !self.stops.load(Ordering::Relaxed) {
            let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
            tended.retain_mut(|(tended, capacity)| tended.tend(*capacity));
            drop(tended);
            std::thread::sleep(TEND);
        }
    }
}

/// Whether an operator knows that a file does not open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Once,
}

/// Between two looks for what is wanted, and two tries to open a file.
const IDLE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);
/// After which a file that another has is told of.
const LONG: Duration = Duration::from_secs(5);
/// Between two looks at pages.
const TEND: Duration = Duration::from_millis(10);
