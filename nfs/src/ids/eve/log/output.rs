//! A file or a socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{LogError, Target};

/// A file or a socket.
#[derive(Debug)]
pub(super) struct Output {
    target: Target,
    link: Option<Link>,
    tried: Option<Instant>,
    /// The last line in the file has no end: a disk was full.
    is_torn: bool,
    error: Option<io::Error>,
}

#[derive(Debug)]
enum Link {
    File(File),
    Stream(UnixStream),
    Datagram(UnixDatagram),
}

impl Output {
    /// Opens the target; a socket that nobody listens on is tried again later.
    pub(super) fn open(target: Target) -> Result<Self, LogError> {
        let link = match (link(&target), &target) {
            (Ok(link), _) => Some(link),
            // A FIFO that nobody reads yet.
            (Err(source), Target::File(_)) if source.raw_os_error() == Some(libc::ENXIO) => None,
            (Err(source), Target::File(path)) => {
                return Err(LogError::Open { path: path.clone(), source });
            }
            (Err(_), _) => None,
        };
        Ok(Self { target, link, tried: Some(Instant::now()), is_torn: false, error: None })
    }

    /// A new, empty file.
    pub(super) fn create(path: PathBuf) -> Result<Self, LogError> {
        // Each piece goes to the end: another function may write to the same file.
        let append = |_| OpenOptions::new().append(true).open(&path);
        match File::create(&path).and_then(append) {
            Ok(file) => Ok(Self {
                target: Target::File(path),
                link: Some(Link::File(file)),
                tried: None,
                is_torn: false,
                error: None,
            }),
            Err(source) => Err(LogError::Open { path, source }),
        }
    }

    /// Whether it takes lines now. Tries to open what is closed, once a second.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.link.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            self.tried = Some(Instant::now());
            self.link = link(&self.target).ok();
        }
        self.link.is_some()
    }

    /// Opens the target once more: a file that was moved away gets a new one of its name.
    pub(super) fn reopen(&mut self) {
        self.is_torn = false;
        self.tried = Some(Instant::now());
        match link(&self.target) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                tracing::error!(target = ?self.target, %error, "the log cannot be opened again");
                // A file that is still open is better than none.
                if !matches!(self.target, Target::File(_)) {
                    self.link = None;
                }
            }
        }
    }

    /// Writes whole lines and empties them; how many of them were lost. Who reads a FIFO may take a part only: what it has
    /// no room for stays in `lines`.
    pub(super) fn write(&mut self, lines: &mut Vec<u8>) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let (done, result) = match &mut self.link {
            None => (0, Ok(())),
            Some(Link::Datagram(socket)) => {
                let lost = send(socket, lines);
                lines.clear();
                return match lost {
                    Ok(lost) => lost,
                    Err((lost, error)) => {
                        self.fails(error);
                        lost
                    }
                };
            }
            Some(Link::File(file)) => {
                let end = if std::mem::take(&mut self.is_torn) { &b"\n"[..] } else { b"" };
                match write_all(file, end) {
                    (_, Ok(())) => write_all(file, lines),
                    (_, Err(error)) => {
                        self.is_torn = true;
                        (0, Err(error))
                    }
                }
            }
            Some(Link::Stream(stream)) => write_all(stream, lines),
        };
        if self.is_file() && matches!(&result, Err(error) if error.kind() == WOULD_BLOCK) {
            lines.drain(..done);
            return 0;
        }
        let rest = lines.get(done..).unwrap_or_default();
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        let last = done.checked_sub(1).and_then(|last| lines.get(last));
        self.is_torn |= last.is_some_and(|byte| *byte != b'\n');
        lines.clear();
        if let Err(error) = result {
            self.fails(error);
        }
        lost
    }

    fn is_file(&self) -> bool {
        matches!(self.link, Some(Link::File(_)))
    }

    /// The first error since the last call.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn fails(&mut self, error: io::Error) {
        if self.error.is_none() {
            tracing::error!(target = ?self.target, %error, "records are lost");
        }
        if !matches!(self.target, Target::File(_)) {
            self.link = None;
            self.tried = Some(Instant::now());
        }
        self.error.get_or_insert(error);
    }
}

fn link(target: &Target) -> io::Result<Link> {
    match target {
        Target::File(path) => {
            // Nobody waits for who reads a FIFO; to a file it is all the same.
            let mut options = OpenOptions::new();
            options.create(true).append(true).custom_flags(libc::O_NONBLOCK);
            Ok(Link::File(options.open(path)?))
        }
        Target::Stream(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(SLOWEST))?;
            Ok(Link::Stream(stream))
        }
        Target::Datagram(path) => Ok(Link::Datagram(datagram(path)?)),
    }
}

fn datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(SLOWEST))?;
    Ok(socket)
}

/// Writes all of it, and says how much was written when it could not.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// A datagram a line. One that is too long for the socket is lost alone; with a reader that is away or stuck so are all.
fn send(socket: &UnixDatagram, lines: &[u8]) -> Result<u64, (u64, io::Error)> {
    let mut lost = 0;
    let mut each = lines.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = each.next() {
        match socket.send(line) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(TOO_LONG) => lost += 1,
            Err(error) => return Err((lost + 1 + each.count() as u64, error)),
        }
    }
    Ok(lost)
}

const WOULD_BLOCK: io::ErrorKind = io::ErrorKind::WouldBlock;

/// How long a reader may be stuck before it counts as gone.
const SLOWEST: Duration = Duration::from_secs(1);

/// How often a socket is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// EMSGSIZE
const TOO_LONG: i32 = 90;
