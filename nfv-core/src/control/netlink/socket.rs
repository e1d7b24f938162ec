//! A socket to the kernel's routing tables: requests out, messages in, one datagram at a time.
//!
//! What is read is handled before more is read, so memory stays at one datagram, and the kernel tells an overrun.
//! Rejected: the `rtnetlink` crate, whose connection reads ahead into a queue without a bound.
use std::{fmt, io};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::io::Errno;

/// A netlink socket of the routing family.
pub(in crate::control) struct Socket {
    inner: TokioSocket,
    datagram: Vec<u8>,
    /// Our address: answers to our requests carry it.
    port: u32,
    /// Of the last request; answers carry it. Never 0.
    sequence: u32,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What the kernel said in one message of a datagram.
#[derive(Debug)]
pub(in crate::control) enum Heard {
    /// A part of the answer to our request `answers`, or a notification (`None`).
    Message { answers: Option<u32>, flags: u16, body: RouteNetlinkMessage },
    /// A next-hop object was deleted; its routes go with it, and IPv4 does not say so one by one.
    NextHopDeleted,
    /// The answer to request `sequence` is complete; an acknowledgement, or a failure.
    Done { sequence: u32, interrupted: bool, result: io::Result<()> },
}

impl Socket {
    /// Opens a socket and joins `groups` (`RTNLGRP_*` numbers). Needs a tokio runtime around it.
    pub(in crate::control) fn open(groups: &[u32]) -> io::Result<Self> {
        let mut inner = TokioSocket::new(NETLINK_ROUTE)?;
        let port = inner.socket_mut().bind_auto()?.port_number();
        for group in groups {
            inner.socket_ref().add_membership(*group)?;
        }
        Ok(Self { inner, datagram: Vec::with_capacity(DATAGRAM_MAX), port, sequence: 0 })
    }

    /// Asks the kernel for more room than its default for what it tells us, so that overruns are rare.
    ///
    /// The kernel caps it at `net.core.rmem_max` and says nothing; an overrun costs a dump, not correctness.
    pub(in crate::control) fn widen(&self, bytes: u32) -> io::Result<()> {
        self.inner.socket_ref().set_rx_buf_sz(bytes)
    }

    /// Sends `body` and returns the sequence number of the answers to it. `NLM_F_REQUEST` is added to `flags`.
    pub(in crate::control) async fn send(
        &mut self,
        body: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<u32> {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut message = NetlinkMessage::from(body);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.inner.send_to(&bytes, &SocketAddr::new(0, 0)).await?;
        Ok(self.sequence)
    }

    /// Sends `body` and waits for the kernel's acknowledgement.
    ///
    /// # Errors
    /// The kernel's errno when it refuses.
    pub(in crate::control) async fn request(
        &mut self,
        body: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<()> {
        let asked = self.send(body, flags | NLM_F_ACK).await?;
        let mut answer = None;
        while answer.is_none() {
            self.receive(|heard| {
                if let Heard::Done { sequence, result, .. } = heard
                    && sequence == asked
                {
                    answer = Some(result);
                }
            })
            .await?;
        }
        answer.unwrap_or(Ok(()))
    }

    /// The index of interface `name`, `None` when there is none.
    pub(in crate::control) async fn index_of(&mut self, name: &str) -> io::Result<Option<u32>> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let asked = self.send(RouteNetlinkMessage::GetLink(query), NLM_F_ACK).await?;
        let (mut index, mut answer) = (None, None);
        while answer.is_none() {
            self.receive(|heard| match heard {
                Heard::Message { answers, body: RouteNetlinkMessage::NewLink(link), .. }
                    if answers == Some(asked) =>
                {
                    index = Some(link.header.index);
                }
                Heard::Done { sequence, result, .. } if sequence == asked => answer = Some(result),
                _ => {}
            })
            .await?;
        }
        match answer.unwrap_or(Ok(())) {
            Err(e) if e.raw_os_error() != Some(Errno::NODEV.raw_os_error()) => Err(e),
            _ => Ok(index),
        }
    }

    /// Starts a dump of a whole table; answers with its sequence number.
    pub(in crate::control) async fn dump(&mut self, body: RouteNetlinkMessage) -> io::Result<u32> {
        self.send(body, NLM_F_DUMP).await
    }

    /// Waits for a datagram and hands over its messages in order. Cancel safe.
    ///
    /// # Errors
    /// `ENOBUFS` ([`is_overrun`]): the kernel had more to say than the socket holds; what it dropped must be asked for.
    pub(in crate::control) async fn receive(
        &mut self,
        mut each: impl FnMut(Heard),
    ) -> io::Result<()> {
        self.datagram.clear();
        let from = self.inner.recv_from(&mut self.datagram).await?;
        // Port 0 is the kernel. A process that may send to a routing socket of ours is root's, but not a source of routes.
        if from.port_number() == 0 {
            split(&self.datagram, self.port, &mut each);
        }
        Ok(())
    }
}

/// Whether `error` says that the kernel had to drop messages for us.
pub(in crate::control) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

/// Hands over the messages of a datagram. One that does not parse is left out; a header that lies ends the datagram.
fn split(datagram: &[u8], port: u32, each: &mut impl FnMut(Heard)) {
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let length = message.length() as usize;
        if let Some(heard) = read(&message, rest.get(..length).unwrap_or(rest), port) {
            each(heard);
        }
        rest = rest.get(length.next_multiple_of(NLMSG_ALIGN)..).unwrap_or_default();
    }
}

fn read(message: &NetlinkBuffer<&[u8]>, bytes: &[u8], port: u32) -> Option<Heard> {
    match message.message_type() {
        // The parser does not know next-hop objects; that one went is all that matters here.
        RTM_DELNEXTHOP => return Some(Heard::NextHopDeleted),
        RTM_NEWNEXTHOP => return None,
        _ => {}
    }
    let parsed = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::debug!(%error, kind = message.message_type(), "netlink message left out");
            return None;
        }
    };
    let (sequence, flags) = (parsed.header.sequence_number, parsed.header.flags);
    let done = |result| Heard::Done { sequence, interrupted: flags & NLM_F_DUMP_INTR != 0, result };
    match parsed.payload {
        NetlinkPayload::InnerMessage(body) => {
            // Notifications carry the port and number of whoever made the change.
            let answers = (parsed.header.port_number == port).then_some(sequence);
            Some(Heard::Message { answers, flags, body })
        }
        NetlinkPayload::Done(message) if message.code < 0 => {
            Some(done(Err(io::Error::from_raw_os_error(message.code.saturating_neg()))))
        }
        NetlinkPayload::Done(_) => Some(done(Ok(()))),
        NetlinkPayload::Error(error) if error.code.is_some() => Some(done(Err(error.to_io()))),
        NetlinkPayload::Error(_) => Some(done(Ok(()))),
        _ => None,
    }
}

/// Larger than any datagram of the kernel: dumps come in at most 32 KiB (`NLMSG_GOODSIZE` and `max_recvmsg_len`).
const DATAGRAM_MAX: usize = 64 * 1024;
/// `NLMSG_ALIGNTO` of `linux/netlink.h`.
const NLMSG_ALIGN: usize = 4;
/// Of `linux/rtnetlink.h`.
const RTM_NEWNEXTHOP: u16 = 104;
/// Of `linux/rtnetlink.h`.
const RTM_DELNEXTHOP: u16 = 105;

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev 5`, as `RTM_NEWNEIGH` on the wire.
    const NEW_NEIGHBOUR: [u8; 48] = [
        48, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, // header: length, type, flags, seq, port
        2, 0, 0, 0, 5, 0, 0, 0, 0x80, 0, 0, 1, // AF_INET, interface 5, permanent, unicast
        8, 0, 1, 0, 10, 9, 0, 2, // NDA_DST
        10, 0, 2, 0, 2, 0, 0, 0, 0, 2, 0, 0, // NDA_LLADDR, padded
    ];

    fn messages(datagram: &[u8]) -> usize {
        let mut count = 0;
        split(datagram, 7, &mut |_| count += 1);
        count
    }

    #[test]
    fn a_datagram_of_two_messages_gives_both() {
        let two = [NEW_NEIGHBOUR, NEW_NEIGHBOUR].concat();
        assert_eq!(messages(&two), 2);
    }

    #[test]
    fn a_message_cut_anywhere_gives_nothing_and_does_not_panic() {
        for end in 0..NEW_NEIGHBOUR.len() {
            assert_eq!(messages(&NEW_NEIGHBOUR[..end]), 0, "cut at {end}");
        }
    }

    #[test]
    fn a_message_of_unknown_type_does_not_hide_the_next_one() {
        let mut unknown = NEW_NEIGHBOUR;
        unknown[4] = 250;
        assert_eq!(messages(&[unknown, NEW_NEIGHBOUR].concat()), 1);
    }

    #[test]
    fn a_flipped_byte_never_panics() {
        for place in 0..NEW_NEIGHBOUR.len() {
            for bit in 0..8 {
                let mut broken = NEW_NEIGHBOUR;
                broken[place] ^= 1 << bit;
                messages(&broken);
            }
        }
    }
}
