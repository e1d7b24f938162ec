//! A log that is a file, so that a box that starts again has what it had.
//!
//! ```text
//! head (4096)   an entry for each record, 32 bytes, at its number modulo their count   the ring of bytes
//! ```
//!
//! An entry says where its record is and what its bytes come to, and bears a check that depends on which log it is: what
//! was in the file before the log was begun anew counts for nothing, without being wiped. Entries are written behind their
//! bytes, so that a process that is killed leaves nothing half; of a machine that stops nobody knows what had come to the
//! disk, and the log is begun anew unless it was closed before. At the start each record is compared with its entry.
//! The rejected: an index in the file, which would be another thing that can be wrong; it is made again from the bytes.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nfv_core::dpdk::{Beside, Mapped};
use twox_hash::XxHash3_64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::records::{Record, room_for};
use super::wire::Which;

/// A file with a log.
#[derive(Debug)]
pub struct Store {
    memory: Mapped,
    /// Entries.
    count: usize,
    names: Names,
    seed: u64,
    /// Records of places before this may have been half overwritten when it was opened.
    oldest: u64,
}

/// Whose bytes are in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The encoder's log, which the decoder's is like.
    pub sent: Which,
    /// The decoder's.
    pub came: Which,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest record's number, and the place behind it.
    Records {
        /// The number.
        newest: u32,
        /// The place.
        head: u64,
    },
    /// Nothing that counts, and why.
    Nothing(Why),
}

/// Why a log is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There was no file, or nothing in it.
    #[error("it is new")]
    New,
    /// It has another size.
    #[error("it had another size")]
    Size,
    /// Its head is not one.
    #[error("it is no log of this version, or its head is damaged")]
    Foreign,
    /// The machine stopped.
    #[error("the machine stopped before all of it was on the disk")]
    Cut,
    /// Bytes are not what they were.
    #[error("it is damaged")]
    Damaged,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    capacity: u64,
    /// Of the machine's start in which it was opened; 0 once it is closed.
    boot: u64,
    sent: Which,
    came: Which,
    /// Of those before.
    check: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Entry {
    place: u64,
    bytes: u64,
    number: u32,
    print: u32,
    length: u16,
    headers: u8,
    is_confirmed: u8,
    /// Of those before, and of which log it is.
    check: u32,
}

impl Store {
    /// Opens a file of so many bytes, or makes it. Reads all that is in it: a second for some GiB, and the disk's time.
    ///
    /// # Errors
    /// Another process has it, it may not be written, or the disk has no room.
    pub fn open(path: &Path, size: usize, drawn: Names) -> std::io::Result<(Self, Found)> {
        let mut options = File::options();
        // What passes between the sites is nobody else's.
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let before = file.metadata()?.len();
        let capacity = capacity(size);
        let count = room_for(capacity);
        let bytes = HEAD + count * ENTRY + capacity;
        let memory = Mapped::new(file, bytes)?;
        let mut store = Self { memory, count, names: drawn, seed: 0, oldest: 0 };
        let found = match store.read_head() {
            _ if before == 0 => Err(Why::New),
            _ if before != bytes as u64 => Err(Why::Size),
            Some(Head { boot, .. }) if ![0, booted()].contains(&boot) || boot == 1 => Err(Why::Cut),
            Some(Head { sent, came, .. }) => {
                store.take_names(Names { sent, came });
                store.verify()
            }
            None => Err(Why::Foreign),
        };
        if found.is_err() {
            store.take_names(drawn);
        }
        store.write_head(booted());
        // From here on what is on the disk is old.
        store.memory.sync(0..HEAD)?;
        let found = match found {
            Ok(Some((newest, head))) => Found::Records { newest, head },
            Ok(None) => Found::Nothing(Why::New),
            Err(why) => Found::Nothing(why),
        };
        Ok((store, found))
    }

    /// Whose bytes are in it.
    pub fn names(&self) -> Names {
        self.names
    }

    /// Begins anew: what is in it counts for nothing.
    pub fn rename(&mut self, names: Names) {
        self.take_names(names);
        self.write_head(booted());
    }

    /// The ring.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(HEAD + self.count * ENTRY..).unwrap_or_default()
    }

    /// The ring.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(HEAD + self.count * ENTRY..).unwrap_or_default()
    }

    /// Notes a record whose bytes are written, and that the newest is before `head`.
    #[inline]
    pub fn note(&mut self, number: u32, record: &Record, bytes: [&[u8]; 2], head: u64) {
        let Record { place, length, headers, is_confirmed, print } = *record;
        let is_confirmed = u8::from(is_confirmed);
        let bytes = sum(bytes);
        let entry = Entry { place, bytes, number, print, length, headers, is_confirmed, check: 0 };
        self.put(Entry { check: self.check(&entry), ..entry });
        self.memory.reach([head, number.into()]);
    }

    /// Notes that the decoder has a record.
    #[inline]
    pub fn confirm(&mut self, number: u32) {
        if let Some(entry) = self.entry(number) {
            let entry = Entry { is_confirmed: 1, ..entry };
            self.put(Entry { check: self.check(&entry), ..entry });
        }
    }

    /// A record by its number, as it was when the file was opened.
    pub fn record(&self, number: u32) -> Option<Record> {
        let entry = self.entry(number).filter(|entry| entry.place >= self.oldest)?;
        let Entry { place, length, headers, print, .. } = entry;
        Some(Record { place, length, headers, is_confirmed: entry.is_confirmed != 0, print })
    }

    /// The numbers that there may be records of, the oldest first.
    pub fn numbers(&self, newest: u32) -> impl Iterator<Item = u32> {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        (0..count).rev().map(move |back| newest.wrapping_sub(back))
    }

    /// For who has its pages ready.
    pub fn tended(&self) -> Tended {
        let log = HEAD + self.count * ENTRY;
        Tended { beside: self.memory.beside(), count: self.count, log, ready: 0, written: None }
    }

    fn take_names(&mut self, names: Names) {
        self.names = names;
        self.seed = XxHash3_64::oneshot_with_seed(names.sent, &names.came.to_le_bytes());
    }

    fn read_head(&self) -> Option<Head> {
        let (head, _) = Head::read_from_prefix(&self.memory).ok()?;
        let is_right = head.magic == MAGIC && head.check == head_check(&head);
        (is_right && head.capacity == self.bytes().len() as u64).then_some(head)
    }

    fn write_head(&mut self, boot: u64) {
        let Names { sent, came } = self.names;
        let capacity = self.bytes().len() as u64;
        let head = Head { magic: MAGIC, capacity, boot, sent, came, check: 0 };
        let head = Head { check: head_check(&head), ..head };
        // It is shorter than a page.
        let _ = head.write_to_prefix(&mut self.memory);
    }

    /// Compares what there is with its entries: the newest record's number, and the place behind it.
    fn verify(&mut self) -> Result<Option<(u32, u64)>, Why> {
        let slots = 0..u32::try_from(self.count).unwrap_or(u32::MAX);
        let all = slots.filter_map(|at| self.at(at as usize).filter(|e| self.is_right(e)));
        let Some(newest) = all.max_by_key(|entry| entry.place) else { return Ok(None) };
        let capacity = self.bytes().len() as u64;
        let head = newest.place.checked_add(newest.length.into()).ok_or(Why::Damaged)?;
        self.oldest = (head + EDGE).saturating_sub(capacity);
        let (mut end, mut buffer) = (0, Vec::new());
        for number in self.numbers(newest.number) {
            let Some(entry) = self.entry(number).filter(|e| e.place >= self.oldest) else {
                continue;
            };
            if entry.place < end || u16::from(entry.headers) > entry.length {
                return Err(Why::Damaged);
            }
            end = entry.place + u64::from(entry.length);
            let start = usize::try_from(entry.place % capacity).unwrap_or(0);
            let ring = self.bytes();
            buffer.clear();
            let on = ring.iter().skip(start).chain(ring.iter());
            let whole = ring.get(start..start + usize::from(entry.length));
            if whole.is_none() {
                buffer.extend(on.take(entry.length.into()));
            }
            let bytes = whole.unwrap_or(&buffer);
            let (headers, payload) =
                bytes.split_at_checked(entry.headers.into()).ok_or(Why::Damaged)?;
            if sum([headers, payload]) != entry.bytes {
                return Err(Why::Damaged);
            }
        }
        Ok(Some((newest.number, head)))
    }

    /// An entry that is right, by its record's number.
    #[inline]
    fn entry(&self, number: u32) -> Option<Entry> {
        let entry = self.at(number as usize % self.count)?;
        (entry.number == number && self.is_right(&entry)).then_some(entry)
    }

    #[inline]
    fn at(&self, slot: usize) -> Option<Entry> {
        let start = HEAD + slot * ENTRY;
        Entry::read_from_bytes(self.memory.get(start..start + ENTRY)?).ok()
    }

    #[inline]
    fn put(&mut self, entry: Entry) {
        let start = HEAD + entry.number as usize % self.count * ENTRY;
        if let Some(to) = self.memory.get_mut(start..start + ENTRY) {
            to.copy_from_slice(entry.as_bytes());
        }
    }

    fn is_right(&self, entry: &Entry) -> bool {
        entry.check == self.check(entry)
    }

    #[inline]
    fn check(&self, entry: &Entry) -> u32 {
        let bytes = entry.as_bytes().get(..ENTRY - 4).unwrap_or_default();
        XxHash3_64::oneshot_with_seed(self.seed, bytes) as u32
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A disk that does not take it leaves it open.
        if self.memory.sync(0..usize::MAX).is_ok() {
            self.write_head(0);
            let _ = self.memory.sync(0..HEAD);
        }
    }
}

/// Has a file's pages ready for its owner, and what is written on its way to the disk.
#[derive(Debug)]
pub struct Tended {
    beside: Beside,
    count: usize,
    /// Where the ring begins.
    log: usize,
    /// The place up to which pages are ready, and that up to which they were written back.
    ready: u64,
    written: Option<u64>,
}

impl Tended {
    /// Looks after the file. False: it is closed.
    pub fn tend(&mut self, capacity: u64) -> bool {
        let Some([head, number]) = self.beside.reached() else { return false };
        let range = |from: u64, bytes: u64| {
            let start = usize::try_from(from % capacity.max(1)).unwrap_or(0);
            self.log + start..self.log + start + usize::try_from(bytes).unwrap_or(0)
        };
        // A log that was begun anew starts at 0.
        let written = self.written.filter(|written| *written <= head).unwrap_or(head);
        if head < self.ready.saturating_sub(2 * AHEAD) {
            self.ready = head;
        }
        if self.ready < head + AHEAD {
            self.beside.make_ready(range(head, 2 * AHEAD));
            // The ring closes.
            self.beside.make_ready(range(0, AHEAD));
            let entry = HEAD + usize::try_from(number).unwrap_or(0) % self.count * ENTRY;
            self.beside.make_ready(entry..entry + ENTRIES_AHEAD);
            self.ready = head + 2 * AHEAD;
        }
        if head - written >= AHEAD {
            self.beside.write_back(range(written, head - written));
            self.written = Some(head);
        } else {
            self.written = Some(written);
        }
        true
    }
}

/// Bytes of the ring in a file of so many bytes.
pub fn capacity(size: usize) -> usize {
    // A byte in 17 is an entry's: 32 for each 512 at most.
    (size.saturating_sub(HEAD) / 17 * 16 / 4096 * 4096).max(4096)
}

/// What the bytes of a record come to.
fn sum([headers, payload]: [&[u8]; 2]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(headers), payload)
}

fn head_check(head: &Head) -> u64 {
    XxHash3_64::oneshot(head.as_bytes().get(..size_of::<Head>() - 8).unwrap_or_default())
}

/// Tells one start of the machine from others; 1 where that cannot be known.
fn booted() -> u64 {
    static BOOT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id");
        id.map_or(1, |id| XxHash3_64::oneshot(&id) | 2)
    })
}

const MAGIC: [u8; 8] = *b"nfvlog\x001";
const HEAD: usize = 4096;
const ENTRY: usize = size_of::<Entry>();
/// A write that was interrupted may have reached so many bytes behind the newest record.
const EDGE: u64 = 1 << 16;
/// Bytes that are ready in advance, a tenth of a second's at 800 Mbit/s, and as many for entries of records.
const AHEAD: u64 = 8 << 20;
const ENTRIES_AHEAD: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanopt::log::Log;

    const SIZE: usize = 1 << 20;
    const DRAWN: Names = Names { sent: 3, came: 5 };

    /// Writes some records, and closes the file.
    fn write(path: &Path) -> u64 {
        let (store, found) = Store::open(path, SIZE, DRAWN).unwrap();
        assert_eq!(found, Found::Nothing(Why::New));
        let mut log = Log::stored(store, 0);
        for number in 0..100u8 {
            let (place, payload) = (log.head(), [number; 900]);
            log.write(place, &payload);
            let record = Record { place, length: 900, headers: 40, ..Record::default() };
            let (headers, rest) = payload.split_at(40);
            log.note(number.into(), &record, [headers, rest]);
        }
        log.confirm(7);
        log.head()
    }

    fn found(path: &Path) -> Found {
        Store::open(path, SIZE, Names { sent: 7, came: 9 }).unwrap().1
    }

    #[test]
    fn what_was_written_is_found_with_what_was_confirmed_and_once_renamed_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let head = write(&path);
        let (mut store, found) = Store::open(&path, SIZE, Names::default()).unwrap();
        assert_eq!(found, Found::Records { newest: 99, head });
        assert_eq!(store.names(), DRAWN);
        let kept: Vec<_> = store.numbers(99).filter_map(|n| store.record(n)).collect();
        assert_eq!(kept.len(), 100);
        assert!(kept[7].is_confirmed && !kept[8].is_confirmed && kept[7].place == 6300);
        // Another has it.
        assert!(Store::open(&path, SIZE, DRAWN).is_err());
        store.rename(Names { sent: 3, came: 6 });
        drop(store);
        assert_eq!(super::Store::open(&path, SIZE, DRAWN).unwrap().1, Found::Nothing(Why::New));
    }

    #[test]
    fn what_is_not_as_it_was_written_is_begun_anew_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let changed = |how: &dyn Fn(&mut Vec<u8>)| {
            let _ = std::fs::remove_file(&path);
            write(&path);
            let mut bytes = std::fs::read(&path).unwrap();
            how(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            found(&path)
        };
        // The control.
        assert!(matches!(changed(&|_| {}), Found::Records { .. }));
        let ring = HEAD + room_for(capacity(SIZE)) * ENTRY;
        let because = |why| Found::Nothing(why);
        assert_eq!(changed(&|bytes| bytes[ring + 5000] ^= 1), because(Why::Damaged));
        assert_eq!(changed(&|bytes| bytes[12] ^= 1), because(Why::Foreign));
        assert_eq!(changed(&|bytes| bytes.fill(b'x')), because(Why::Foreign));
        assert_eq!(changed(&|bytes| bytes.truncate(70_000)), because(Why::Size));
        assert_eq!(changed(&Vec::clear), because(Why::New));
        // It was open at another start of the machine.
        let open = |bytes: &mut Vec<u8>| {
            let (head, _) = Head::read_from_prefix(bytes).unwrap();
            let head = Head { boot: 4, ..head };
            head.write_to_prefix(bytes).unwrap();
            let check = XxHash3_64::oneshot(&bytes[..size_of::<Head>() - 8]);
            Head { check, ..head }.write_to_prefix(bytes).unwrap();
        };
        assert_eq!(changed(&open), because(Why::Cut));
    }
}
