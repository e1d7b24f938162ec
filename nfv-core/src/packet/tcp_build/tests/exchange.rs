//! Two hosts that know nothing of the proxy between them.

use super::*;

/// One end of a connection: what it sent, what it got, and that all which it is told of its own numbers is so.
#[derive(Debug)]
struct End {
    wire: Wire,
    next: u32,
    expected: u32,
    clock: Option<u32>,
    seen: u32,
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl End {
    fn send(&mut self, data: &[u8], flags: u8) -> Vec<u8> {
        let mut wire = self.wire.clone();
        (wire.seq, wire.ack, wire.flags) = (self.next, self.expected, flags | ACK);
        wire.data = data.to_vec();
        if let Some(clock) = &mut self.clock {
            *clock = clock.wrapping_add(1);
            wire.options = stamps(*clock, self.seen);
        }
        // A block that is 10 to 20 bytes beyond what was received in order.
        wire.options.extend([SACK, 10]);
        for beyond in [10, 20] {
            wire.options.extend(self.expected.wrapping_add(beyond).to_be_bytes());
        }
        wire.options.resize(wire.options.len().next_multiple_of(4), 0);
        self.next = self.next.wrapping_add(data.len() as u32 + u32::from(flags & FIN));
        self.sent.extend(data);
        wire.bytes()
    }

    fn receive(&mut self, frame: &[u8]) {
        assert!(checksums_are_right(frame));
        let (tcp, h) = (tcp_of(frame), headers(frame));
        let fields = Fields::read(frame, &h).unwrap();
        assert_eq!(
            (fields.seq, fields.ack),
            (self.expected, self.next),
            "in order, all acknowledged"
        );
        let data = &tcp[20 + fields.options.len()..];
        let end = u32::from(h.tcp_flags.0 & FIN);
        self.expected = self.expected.wrapping_add(data.len() as u32 + end);
        self.received.extend(data);
        let timestamps = SynOptions::read(fields.options).timestamps;
        assert_eq!(timestamps.is_some(), self.clock.is_some());
        if let (Some((value, echo)), Some(clock)) = (timestamps, self.clock) {
            assert_eq!(echo, clock, "what it sent last");
            assert!(value.wrapping_sub(self.seen) <= 1 << 31, "time goes on: PAWS, RFC 7323");
            self.seen = value;
        }
        let mut at = 0;
        while let Some((kind, body)) = option_at(fields.options, at) {
            at = body.end;
            if kind == SACK {
                let edges: Vec<u32> = fields.options[body]
                    .chunks(4)
                    .map(|edge| {
                        u32::from_be_bytes(edge.try_into().unwrap()).wrapping_sub(self.next)
                    })
                    .collect();
                assert_eq!(edges, [10, 20]);
            }
        }
    }
}

/// Client and server that know nothing of the proxy, and the proxy between them: all numbers may wrap.
fn exchange(v6: bool, clocks: Option<(u32, u32, u32)>, isns: (u32, u32), talk: &[(bool, Vec<u8>)]) {
    let supports =
        Server { mss: 1400, window_scale: Some(9), sack: true, timestamps: true, ecn: Ecn::Yes };
    let now = CookieCount::at(1_700_000_000);
    let offer = SynOptions {
        mss: Some(1440),
        window_scale: Some(7),
        sack: true,
        timestamps: clocks.map(|(client, _, _)| (client, 0)),
    };
    let wire = Wire { seq: isns.0, options: written(&offer), ..client(v6) };
    let frame = wire.bytes();
    let h = headers(&frame);
    let syn = Syn::read(&frame, &h).unwrap();
    assert_eq!(syn.options, offer);
    let cookie = key().make(&h, &syn, now);
    let ours = clocks.map_or(0, |(_, proxy, _)| proxy);
    let answer = syn.answer(&supports, ours);
    let frame = built(|out| syn_ack(&frame, &h, cookie, &answer, 0, out)).unwrap();

    // The client believes what it is told.
    let told = Fields::read(&frame, &headers(&frame)).unwrap();
    let next = isns.0.wrapping_add(1);
    assert_eq!(told.ack, next);
    let mut a = End {
        wire: Wire { options: vec![], ..wire.clone() },
        next,
        expected: told.seq.wrapping_add(1),
        clock: clocks.map(|(client, _, _)| client),
        seen: SynOptions::read(told.options).timestamps.map_or(0, |(value, _)| value),
        sent: vec![],
        received: vec![],
    };
    let frame = a.send(&[], 0);
    let h = headers(&frame);
    let opened = Opened::read(&frame, &h).unwrap();
    let mss = key().check(&h, &opened, now).unwrap();
    let syn = opened.syn(mss);
    let frame = built(|out| syn_to_server(&frame, &h, &syn, opened.window, out)).unwrap();

    // The server hears the client's offer.
    let h = headers(&frame);
    let heard = Syn::read(&frame, &h).unwrap();
    assert_eq!(heard.client_isn, isns.0);
    assert!(heard.options.mss.unwrap() <= 1440);
    let remembered = clocks.map(|_| (7, true));
    assert_eq!(heard.options.window_scale.zip(Some(heard.options.sack)), remembered);
    let mut reply = wire.reply(SERVER);
    (reply.seq, reply.ack) = (isns.1, next);
    (reply.flags, reply.window) = (SYN | ACK, 65160);
    let heard_clock = heard.options.timestamps.map(|(value, _)| value);
    reply.options = written(&SynOptions {
        timestamps: clocks.zip(heard_clock).map(|((_, _, server), heard)| (server, heard)),
        ..answer.options
    });
    let mut b = End {
        wire: Wire { options: vec![], ..reply.clone() },
        next: isns.1.wrapping_add(1),
        expected: next,
        clock: clocks.map(|(_, _, server)| server),
        seen: heard_clock.unwrap_or(0),
        sent: vec![],
        received: vec![],
    };
    let frame = reply.bytes();
    let h = headers(&frame);
    let mut shift = Shift::default();
    let to_server = built(|out| {
        let (length, found) = ack_to_server(&frame, &h, &opened, out)?;
        shift = found;
        Some(length)
    });
    b.receive(&to_server.unwrap());
    let scale = if clocks.is_some() { 9 } else { 0 };
    a.receive(&built(|out| window_to_client(&frame, &h, &opened, scale, out)).unwrap());

    let last = [(true, None), (false, None), (true, Some(())), (false, Some(()))];
    let talk = talk.iter().map(|(from_client, data)| (*from_client, data.as_slice(), PSH));
    let ends = last.iter().map(|(from_client, end)| {
        (*from_client, [].as_slice(), if end.is_some() { FIN } else { 0 })
    });
    for (from_client, data, flags) in talk.chain(ends) {
        let (from, to) = if from_client { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let mut frame = from.send(data, flags);
        let l4 = usize::from(headers(&frame).l4);
        let tcp = &mut frame[l4..];
        let done = if from_client { shift.to_server(tcp) } else { shift.to_client(tcp) };
        assert_eq!(done, Some(()));
        to.receive(&frame);
        // Each packet is acknowledged before the next is sent, so that the ends can compare exactly.
        let mut frame = to.send(&[], 0);
        let tcp = &mut frame[l4..];
        let done = if from_client { shift.to_client(tcp) } else { shift.to_server(tcp) };
        assert_eq!(done, Some(()));
        from.receive(&frame);
    }
    assert_eq!(a.sent, b.received);
    assert_eq!(b.sent, a.received);
}

proptest! {
    #[test]
    fn what_either_end_sends_the_other_gets(
        v6: bool, clocks in prop::option::of(any::<(u32, u32, u32)>()), isns: (u32, u32),
        talk in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..100)), 0..12),
    ) {
        exchange(v6, clocks, isns, &talk);
    }

    #[test]
    fn numbers_wrap_in_the_middle_of_a_conversation(v6: bool, before in 0u32..300, half: bool) {
        let isn = if half { 0x8000_0000 } else { 0 } - i64::from(before);
        let isn = isn.rem_euclid(1 << 32) as u32;
        let talk: Vec<_> = (0..10).map(|i| (i % 2 == 0, vec![i; 77])).collect();
        exchange(v6, Some((isn, isn, isn)), (isn, isn), &talk);
        exchange(v6, None, (isn, isn), &talk);
    }
}
