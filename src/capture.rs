//! Frames of a capture file: pcap or pcapng, Ethernet, raw IP, PPP, Cisco HDLC or Linux cooked, as Ethernet frames.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// A frame of a capture.
#[derive(Debug)]
pub struct Frame {
    /// Nanoseconds since 1970.
    pub stamp: u64,
    /// The bytes that were captured, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub wire_length: u32,
    /// Which one of its capture it is, from 1.
    pub place: u64,
}

/// An open capture.
pub struct Capture {
    path: PathBuf,
    reader: Reader,
    frames: u64,
    ended: bool,
}

enum Reader {
    Pcap(PcapReader<BufReader<File>>),
    PcapNg(PcapNgReader<BufReader<File>>),
}

impl Capture {
    /// Opens a file. The error says which file and why.
    pub fn open(path: &Path) -> Result<Self, String> {
        let say = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let mut file = File::open(path).map_err(|e| say(&e))?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(|_| say(&"not a capture: it has no header"))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| say(&e))?;
        let file = BufReader::new(file);
        let reader = if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            Reader::PcapNg(PcapNgReader::new(file).map_err(|e| say(&e))?)
        } else {
            Reader::Pcap(PcapReader::new(file).map_err(|e| say(&e))?)
        };
        Ok(Self { path: path.to_owned(), reader, frames: 0, ended: false })
    }

    /// The next frame; an error once, then the end.
    pub fn next(&mut self) -> Option<Result<Frame, String>> {
        if self.ended {
            return None;
        }
        let next = match &mut self.reader {
            Reader::Pcap(reader) => {
                let link = reader.header().datalink;
                reader.next_packet().map(|p| {
                    let p = p.map_err(|e| e.to_string())?;
                    let stamp = u64::try_from(p.timestamp.as_nanos()).unwrap_or(u64::MAX);
                    ethernet(link, &p.data, p.orig_len, stamp)
                })
            }
            Reader::PcapNg(reader) => next_of_blocks(reader),
        };
        self.frames += 1;
        match next {
            None => None,
            Some(Ok(frame)) => Some(Ok(Frame { place: self.frames, ..frame })),
            Some(Err(why)) => {
                self.ended = true;
                Some(Err(format!("{}: frame {}: {why}", self.path.display(), self.frames)))
            }
        }
    }
}

fn next_of_blocks(reader: &mut PcapNgReader<BufReader<File>>) -> Option<Result<Frame, String>> {
    loop {
        let (interface, stamp, data, length) = match reader.next_block()? {
            Ok(Block::EnhancedPacket(p)) => {
                let stamp = u64::try_from(p.timestamp.as_nanos()).unwrap_or(u64::MAX);
                (p.interface_id, stamp, p.data.into_owned(), p.original_len)
            }
            Ok(Block::SimplePacket(p)) => (0, 0, p.data.into_owned(), p.original_len),
            Ok(_) => continue,
            Err(why) => return Some(Err(why.to_string())),
        };
        let link = reader.interfaces().get(interface as usize).map(|i| i.linktype);
        return Some(match link {
            Some(link) => ethernet(link, &data, length, stamp),
            None => {
                Err(format!("it names interface {interface}, which the file does not describe"))
            }
        });
    }
}

/// The frame as Ethernet: what another link layer does not have is 0.
fn ethernet(link: DataLink, data: &[u8], length: u32, stamp: u64) -> Result<Frame, String> {
    let build = |header: usize, source: Option<&[u8]>, kind: [u8; 2]| {
        let mut bytes = vec![0; 6];
        bytes.extend_from_slice(source.unwrap_or(&[0; 6]));
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(data.get(header..).unwrap_or_default());
        let grown = (length as usize + 14).saturating_sub(header).max(bytes.len());
        Frame { stamp, wire_length: u32::try_from(grown).unwrap_or(u32::MAX), bytes, place: 0 }
    };
    let by_version = || match data.first().map(|b| b >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    let two = |at: usize| data.get(at..).and_then(|d| d.first_chunk::<2>()).copied();
    match link {
        DataLink::ETHERNET => {
            Ok(Frame { stamp, bytes: data.to_vec(), wire_length: length, place: 0 })
        }
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => Ok(build(0, None, by_version())),
        DataLink::LINUX_SLL => Ok(build(16, data.get(6..12), two(14).unwrap_or_default())),
        DataLink::LINUX_SLL2 => Ok(build(20, data.get(12..18), two(0).unwrap_or_default())),
        DataLink::PPP | DataLink::PPP_HDLC => {
            // Address and control may be left out (RFC 1661, section 6.6).
            let at = if data.starts_with(&[0xff, 3]) { 2 } else { 0 };
            let kind = match two(at) {
                Some([0, 0x21]) => [0x08, 0x00],
                Some([0, 0x57]) => [0x86, 0xdd],
                _ => [0, 0],
            };
            Ok(build(at + 2, None, kind))
        }
        DataLink::C_HDLC => Ok(build(4, None, two(2).unwrap_or_default())),
        // BSD's loopback, whose address family depends on the machine: the version says as much.
        DataLink::NULL | DataLink::LOOP => Ok(build(
            4,
            None,
            match data.get(4).map(|b| b >> 4) {
                Some(6) => [0x86, 0xdd],
                _ => [0x08, 0x00],
            },
        )),
        other => Err(format!(
            "link type {other:?} is not Ethernet, raw IP, PPP, Cisco HDLC or Linux cooked; convert it with editcap or tshark"
        )),
    }
}
