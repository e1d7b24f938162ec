//! What is odd about a segment, named as in Suricata's `anomaly` records and `stream-event` rules.

use nfv_core::nf::Named;

/// Something odd about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// An ACK from the server where the client's was due.
    HandshakeAckInWrongDir,
    /// Data from the server before the client's ACK.
    HandshakeAckDataInject,
    /// One side alone is seen, and its number does not follow its SYN.
    HandshakeAsyncWrongSeq,
    /// The handshake's ACK has the right number and acknowledges another.
    HandshakeRightSeqWrongAckEvasion,
    /// A SYN-ACK from the sender of the SYN.
    HandshakeSynackInWrongDirection,
    /// A SYN-ACK again, which acknowledges another number.
    HandshakeSynackResendWithDifferentAck,
    /// A SYN-ACK again, with another number.
    HandshakeSynackResendWithDiffSeq,
    /// A SYN-ACK from the client after the server's.
    HandshakeSynackToserverOnSynRecv,
    /// A SYN-ACK that acknowledges no SYN that was seen.
    HandshakeSynackWithWrongAck,
    /// More different SYN-ACKs than are kept.
    HandshakeSynackFlood,
    /// More different SYNs than are kept.
    HandshakeSynFlood,
    /// The server did not take the data of a fast-open SYN.
    HandshakeSynackTfoDataIgnored,
    /// Another SYN after the SYN-ACK.
    HandshakeSynResendDiffSeqOnSynRecv,
    /// A SYN from the server after its SYN-ACK.
    HandshakeSynToclientOnSynRecv,
    /// The handshake's ACK has neither number right.
    HandshakeWrongSeqWrongAck,
    /// A SYN-ACK to the server's SYN that acknowledges another number.
    FourWaySynackWithWrongAck,
    /// A SYN-ACK to the server's SYN with another number than the client's SYN.
    FourWaySynackWithWrongSyn,
    /// The ACK that ends a handshake in four has the wrong number.
    FourWayWrongSeq,
    /// The ACK that ends a handshake in four acknowledges the wrong number.
    FourWayInvalidAck,
    /// Outside of the window, after the client's FIN.
    ClosewaitAckOutOfWindow,
    /// A FIN outside of the window, after the client's FIN.
    ClosewaitFinOutOfWindow,
    /// Bytes that were acknowledged, after the client's FIN.
    ClosewaitPktBeforeLastAck,
    /// Acknowledges what was not sent, after the client's FIN.
    ClosewaitInvalidAck,
    /// Outside of the window while both sides close.
    ClosingAckWrongSeq,
    /// Acknowledges what was not sent while both sides close.
    ClosingInvalidAck,
    /// Outside of the window.
    EstPacketOutOfWindow,
    /// Bytes that were acknowledged.
    EstPktBeforeLastAck,
    /// A SYN-ACK again, in an open connection.
    EstSynackResend,
    /// A SYN-ACK in an open connection that acknowledges another number.
    EstSynackResendWithDifferentAck,
    /// A SYN-ACK in an open connection with another number.
    EstSynackResendWithDiffSeq,
    /// A SYN-ACK from the client in an open connection.
    EstSynackToserver,
    /// A SYN again, in an open connection.
    EstSynResend,
    /// A SYN with another number, in an open connection.
    EstSynResendDiffSeq,
    /// A SYN from the server in an open connection.
    EstSynToclient,
    /// Acknowledges what was not sent.
    EstInvalidAck,
    /// A FIN that acknowledges what was not sent.
    FinInvalidAck,
    /// A FIN outside of the window.
    FinOutOfWindow,
    /// A FIN of no connection.
    FinButNoSession,
    /// SYN and FIN in one.
    FinSyn,
    /// Outside of the window, after the server's FIN.
    Fin1AckWrongSeq,
    /// A FIN outside of the window, after the server's FIN.
    Fin1FinWrongSeq,
    /// Acknowledges what was not sent, after the server's FIN.
    Fin1InvalidAck,
    /// Outside of the window, the server's FIN acknowledged.
    Fin2AckWrongSeq,
    /// A FIN outside of the window, the server's FIN acknowledged.
    Fin2FinWrongSeq,
    /// Acknowledges what was not sent, the server's FIN acknowledged.
    Fin2InvalidAck,
    /// Outside of the window, where the last ACK was due.
    LastackAckWrongSeq,
    /// The last ACK acknowledges what was not sent.
    LastackInvalidAck,
    /// A RST of no connection.
    RstButNoSession,
    /// A RST that its receiver would not take.
    RstInvalidAck,
    /// Outside of the window after both FINs.
    TimewaitAckWrongSeq,
    /// Acknowledges what was not sent after both FINs.
    TimewaitInvalidAck,
    /// A SYN while the connection closes.
    ShutdownSynResend,
    /// A timestamp older than the last one.
    PktInvalidTimestamp,
    /// An acknowledgement that its receiver would not take.
    PktInvalidAck,
    /// A number to acknowledge without the ACK flag.
    PktBrokenAck,
    /// Bytes that were sent before.
    PktRetransmission,
    /// Bytes that were sent and acknowledged before.
    PktSpuriousRetransmission,
    /// A smaller window that acknowledges bytes that were not seen.
    PktBadWindowUpdate,
    /// A RST that its receiver did not take.
    SuspectedRstInject,
    /// Seen by another thread than the rest of its flow; never raised here.
    WrongThread,
    /// Bytes from before what is still kept.
    ReassemblySegmentBeforeBaseSeq,
    /// Bytes that there was no room to keep.
    ReassemblyNoSegment,
    /// Bytes that were acknowledged and never seen.
    ReassemblySeqGap,
    /// Bytes that were sent before and were others.
    ReassemblyOverlapDifferentData,
    /// More bytes than are looked at.
    ReassemblyDepthReached,
    /// The budget for bytes is used up.
    ReassemblyInsertMemcap,
    /// More bytes wait in one direction than may.
    ReassemblyInsertLimit,
    /// Bytes at a place that no window reaches.
    ReassemblyInsertInvalid,
    /// More urgent bytes than are taken out.
    ReassemblyUrgentOobLimitReached,
}

impl Event {
    /// Each event; its place is its number.
    pub const ALL: [Self; COUNT] = [
        Self::HandshakeAckInWrongDir,
        Self::HandshakeAckDataInject,
        Self::HandshakeAsyncWrongSeq,
        Self::HandshakeRightSeqWrongAckEvasion,
        Self::HandshakeSynackInWrongDirection,
        Self::HandshakeSynackResendWithDifferentAck,
        Self::HandshakeSynackResendWithDiffSeq,
        Self::HandshakeSynackToserverOnSynRecv,
        Self::HandshakeSynackWithWrongAck,
        Self::HandshakeSynackFlood,
        Self::HandshakeSynFlood,
        Self::HandshakeSynackTfoDataIgnored,
        Self::HandshakeSynResendDiffSeqOnSynRecv,
        Self::HandshakeSynToclientOnSynRecv,
        Self::HandshakeWrongSeqWrongAck,
        Self::FourWaySynackWithWrongAck,
        Self::FourWaySynackWithWrongSyn,
        Self::FourWayWrongSeq,
        Self::FourWayInvalidAck,
        Self::ClosewaitAckOutOfWindow,
        Self::ClosewaitFinOutOfWindow,
        Self::ClosewaitPktBeforeLastAck,
        Self::ClosewaitInvalidAck,
        Self::ClosingAckWrongSeq,
        Self::ClosingInvalidAck,
        Self::EstPacketOutOfWindow,
        Self::EstPktBeforeLastAck,
        Self::EstSynackResend,
        Self::EstSynackResendWithDifferentAck,
        Self::EstSynackResendWithDiffSeq,
        Self::EstSynackToserver,
        Self::EstSynResend,
        Self::EstSynResendDiffSeq,
        Self::EstSynToclient,
        Self::EstInvalidAck,
        Self::FinInvalidAck,
        Self::FinOutOfWindow,
        Self::FinButNoSession,
        Self::FinSyn,
        Self::Fin1AckWrongSeq,
        Self::Fin1FinWrongSeq,
        Self::Fin1InvalidAck,
        Self::Fin2AckWrongSeq,
        Self::Fin2FinWrongSeq,
        Self::Fin2InvalidAck,
        Self::LastackAckWrongSeq,
        Self::LastackInvalidAck,
        Self::RstButNoSession,
        Self::RstInvalidAck,
        Self::TimewaitAckWrongSeq,
        Self::TimewaitInvalidAck,
        Self::ShutdownSynResend,
        Self::PktInvalidTimestamp,
        Self::PktInvalidAck,
        Self::PktBrokenAck,
        Self::PktRetransmission,
        Self::PktSpuriousRetransmission,
        Self::PktBadWindowUpdate,
        Self::SuspectedRstInject,
        Self::WrongThread,
        Self::ReassemblySegmentBeforeBaseSeq,
        Self::ReassemblyNoSegment,
        Self::ReassemblySeqGap,
        Self::ReassemblyOverlapDifferentData,
        Self::ReassemblyDepthReached,
        Self::ReassemblyInsertMemcap,
        Self::ReassemblyInsertLimit,
        Self::ReassemblyInsertInvalid,
        Self::ReassemblyUrgentOobLimitReached,
    ];

    /// Name and meaning of each, in the order of [`Event::ALL`]. In logs `stream.` stands before the name.
    pub const NAMES: [Named; COUNT] = [
        Named {
            name: "3whs_ack_in_wrong_dir",
            help: "an ACK from the server where the client's was due",
        },
        Named {
            name: "3whs_ack_data_inject",
            help: "data from the server before the client's ACK",
        },
        Named {
            name: "3whs_async_wrong_seq",
            help: "one side alone is seen, and its number does not follow its SYN",
        },
        Named {
            name: "3whs_right_seq_wrong_ack_evasion",
            help: "the handshake's ACK has the right number and acknowledges another",
        },
        Named {
            name: "3whs_synack_in_wrong_direction",
            help: "a SYN-ACK from the sender of the SYN",
        },
        Named {
            name: "3whs_synack_resend_with_different_ack",
            help: "a SYN-ACK again, which acknowledges another number",
        },
        Named {
            name: "3whs_synack_resend_with_diff_seq",
            help: "a SYN-ACK again, with another number",
        },
        Named {
            name: "3whs_synack_toserver_on_syn_recv",
            help: "a SYN-ACK from the client after the server's",
        },
        Named {
            name: "3whs_synack_with_wrong_ack",
            help: "a SYN-ACK that acknowledges no SYN that was seen",
        },
        Named { name: "3whs_synack_flood", help: "more different SYN-ACKs than are kept" },
        Named { name: "3whs_syn_flood", help: "more different SYNs than are kept" },
        Named {
            name: "3whs_synack_tfo_data_ignored",
            help: "the server did not take the data of a fast-open SYN",
        },
        Named {
            name: "3whs_syn_resend_diff_seq_on_syn_recv",
            help: "another SYN after the SYN-ACK",
        },
        Named {
            name: "3whs_syn_toclient_on_syn_recv",
            help: "a SYN from the server after its SYN-ACK",
        },
        Named {
            name: "3whs_wrong_seq_wrong_ack",
            help: "the handshake's ACK has neither number right",
        },
        Named {
            name: "4whs_synack_with_wrong_ack",
            help: "a SYN-ACK to the server's SYN that acknowledges another number",
        },
        Named {
            name: "4whs_synack_with_wrong_syn",
            help: "a SYN-ACK to the server's SYN with another number than the client's SYN",
        },
        Named {
            name: "4whs_wrong_seq",
            help: "the ACK that ends a handshake in four has the wrong number",
        },
        Named {
            name: "4whs_invalid_ack",
            help: "the ACK that ends a handshake in four acknowledges the wrong number",
        },
        Named {
            name: "closewait_ack_out_of_window",
            help: "outside of the window, after the client's FIN",
        },
        Named {
            name: "closewait_fin_out_of_window",
            help: "a FIN outside of the window, after the client's FIN",
        },
        Named {
            name: "closewait_pkt_before_last_ack",
            help: "bytes that were acknowledged, after the client's FIN",
        },
        Named {
            name: "closewait_invalid_ack",
            help: "acknowledges what was not sent, after the client's FIN",
        },
        Named {
            name: "closing_ack_wrong_seq",
            help: "outside of the window while both sides close",
        },
        Named {
            name: "closing_invalid_ack",
            help: "acknowledges what was not sent while both sides close",
        },
        Named { name: "est_packet_out_of_window", help: "outside of the window" },
        Named { name: "est_pkt_before_last_ack", help: "bytes that were acknowledged" },
        Named { name: "est_synack_resend", help: "a SYN-ACK again, in an open connection" },
        Named {
            name: "est_synack_resend_with_different_ack",
            help: "a SYN-ACK in an open connection that acknowledges another number",
        },
        Named {
            name: "est_synack_resend_with_diff_seq",
            help: "a SYN-ACK in an open connection with another number",
        },
        Named {
            name: "est_synack_toserver",
            help: "a SYN-ACK from the client in an open connection",
        },
        Named { name: "est_syn_resend", help: "a SYN again, in an open connection" },
        Named {
            name: "est_syn_resend_diff_seq",
            help: "a SYN with another number, in an open connection",
        },
        Named { name: "est_syn_toclient", help: "a SYN from the server in an open connection" },
        Named { name: "est_invalid_ack", help: "acknowledges what was not sent" },
        Named { name: "fin_invalid_ack", help: "a FIN that acknowledges what was not sent" },
        Named { name: "fin_out_of_window", help: "a FIN outside of the window" },
        Named { name: "fin_but_no_session", help: "a FIN of no connection" },
        Named { name: "fin_syn", help: "SYN and FIN in one" },
        Named { name: "fin1_ack_wrong_seq", help: "outside of the window, after the server's FIN" },
        Named {
            name: "fin1_fin_wrong_seq",
            help: "a FIN outside of the window, after the server's FIN",
        },
        Named {
            name: "fin1_invalid_ack",
            help: "acknowledges what was not sent, after the server's FIN",
        },
        Named {
            name: "fin2_ack_wrong_seq",
            help: "outside of the window, the server's FIN acknowledged",
        },
        Named {
            name: "fin2_fin_wrong_seq",
            help: "a FIN outside of the window, the server's FIN acknowledged",
        },
        Named {
            name: "fin2_invalid_ack",
            help: "acknowledges what was not sent, the server's FIN acknowledged",
        },
        Named {
            name: "lastack_ack_wrong_seq",
            help: "outside of the window, where the last ACK was due",
        },
        Named { name: "lastack_invalid_ack", help: "the last ACK acknowledges what was not sent" },
        Named { name: "rst_but_no_session", help: "a RST of no connection" },
        Named { name: "rst_invalid_ack", help: "a RST that its receiver would not take" },
        Named { name: "timewait_ack_wrong_seq", help: "outside of the window after both FINs" },
        Named {
            name: "timewait_invalid_ack",
            help: "acknowledges what was not sent after both FINs",
        },
        Named { name: "shutdown_syn_resend", help: "a SYN while the connection closes" },
        Named { name: "pkt_invalid_timestamp", help: "a timestamp older than the last one" },
        Named {
            name: "pkt_invalid_ack",
            help: "an acknowledgement that its receiver would not take",
        },
        Named { name: "pkt_broken_ack", help: "a number to acknowledge without the ACK flag" },
        Named { name: "pkt_retransmission", help: "bytes that were sent before" },
        Named {
            name: "pkt_spurious_retransmission",
            help: "bytes that were sent and acknowledged before",
        },
        Named {
            name: "pkt_bad_window_update",
            help: "a smaller window that acknowledges bytes that were not seen",
        },
        Named { name: "suspected_rst_inject", help: "a RST that its receiver did not take" },
        Named {
            name: "wrong_thread",
            help: "seen by another thread than the rest of its flow; never raised here",
        },
        Named {
            name: "reassembly_segment_before_base_seq",
            help: "bytes from before what is still kept",
        },
        Named { name: "reassembly_no_segment", help: "bytes that there was no room to keep" },
        Named { name: "reassembly_seq_gap", help: "bytes that were acknowledged and never seen" },
        Named {
            name: "reassembly_overlap_different_data",
            help: "bytes that were sent before and were others",
        },
        Named { name: "reassembly_depth_reached", help: "more bytes than are looked at" },
        Named { name: "reassembly_insert_memcap", help: "the budget for bytes is used up" },
        Named {
            name: "reassembly_insert_limit",
            help: "more bytes wait in one direction than may",
        },
        Named {
            name: "reassembly_insert_invalid",
            help: "bytes at a place that no window reaches",
        },
        Named {
            name: "reassembly_urgent_oob_limit_reached",
            help: "more urgent bytes than are taken out",
        },
    ];

    /// Its name, as a rule's `stream-event` has it.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self as u8)).map_or("stream", |named| named.name)
    }

    /// By its name, with or without `stream.` before it.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("stream.").unwrap_or(name);
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// The events of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u128);

impl Events {
    /// No event.
    pub const NONE: Self = Self(0);

    /// Adds one.
    #[inline]
    pub fn add(&mut self, event: Event) {
        self.0 |= 1 << (event as u8);
    }

    /// Whether it has one.
    #[inline]
    pub fn has(self, event: Event) -> bool {
        self.0 >> (event as u8) & 1 == 1
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Event> {
        Event::ALL.into_iter().filter(move |event| self.has(*event))
    }
}

const COUNT: usize = 69;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_by_its_name_and_stands_at_its_number() {
        for (number, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(event as u8), number);
            assert_eq!(Event::named(event.name()), Some(event));
            assert_eq!(Event::named(&format!("stream.{}", event.name())), Some(event));
        }
        assert_eq!(Event::named("est_nothing"), None);
    }

    #[test]
    fn a_set_has_what_was_added() {
        let mut events = Events::default();
        assert!(events.is_empty());
        let [first, .., last] = Event::ALL;
        events.add(last);
        events.add(first);
        events.add(last);
        assert_eq!(events.iter().collect::<Vec<_>>(), [first, last]);
        assert!(!events.has(Event::FinSyn));
    }
}
