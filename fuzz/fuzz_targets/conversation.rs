//! A conversation with a parser, cut as the input says, with what an owner does between the pieces.

use std::sync::Arc;

use nfs::ids::app::{App, Input, Limits, Pickup, Ports, Side, Transaction};
use nfs::ids::eve::{Application, Head, Place, Record, Settings};
use nfv_core::clock::Time;

/// Feeds the input piece by piece: a piece begins with a byte that says whose it is and how long, or that bytes are missing.
pub fn converse(mut app: App, input: &[u8]) {
    let limits = Limits::default();
    let settings = Settings::default();
    let mut rest = input;
    while let Some((head, behind)) = rest.split_first() {
        let side = if head & 1 == 0 { Side::ToServer } else { Side::ToClient };
        if *head >= 0xfe {
            app.feed(side, Input::Gap(u64::from(*head) * 7), &limits);
            rest = behind;
            continue;
        }
        let (piece, behind) = behind.split_at(usize::from(head >> 1).min(behind.len()));
        rest = behind;
        let mut left = piece;
        let mut rounds = 0;
        loop {
            let progress = app.feed(side, Input::Bytes(left), &limits);
            left = &left[progress.consumed..];
            look(&mut app, &limits, &settings);
            rounds += 1;
            assert!(rounds <= 3 * limits.transactions, "bytes are never taken");
            if left.is_empty() {
                break;
            }
        }
        // State is bounded by what was said and by the limits, decompressed bodies included.
        assert!(app.bytes() < 8 << 20, "{} bytes are held", app.bytes());
    }
    for side in [Side::ToServer, Side::ToClient] {
        app.feed(side, Input::Eof, &limits);
    }
    look(&mut app, &limits, &settings);
}

/// Of a TCP connection to a port.
pub fn tcp(server: u16) -> App {
    App::tcp(Ports { client: 40_000, server }, Pickup::Start)
}

/// What detection and logs ask for; what is done is freed.
fn look(app: &mut App, limits: &Limits, settings: &Settings) {
    let _ = app.take_events();
    let ids: Vec<u64> = app.transactions().iter().map(Transaction::id).collect();
    for id in ids {
        let Some(tx) = app.transactions().get(id) else { continue };
        for side in [Side::ToServer, Side::ToClient] {
            for info in nfs::ids::buffer::BUFFERS {
                let ready = tx.ready(info.buffer, side);
                let bytes = tx.buffer(info.buffer, side);
                if ready == nfs::ids::app::Ready::Never {
                    assert_eq!(bytes, None, "{}", info.name);
                }
            }
        }
        for place in [Place::Record, Place::Alert] {
            if let Some(said) = Application::of(tx, place, settings) {
                let mut out = Vec::new();
                let mut head = Head::at(Time(0));
                head.variables = Some(Arc::default());
                Record { head, body: said.into_body() }.write(settings, &mut out);
                let _: serde_json::Value = serde_json::from_slice(&out).expect("a record is JSON");
            }
        }
        let is_complete = tx.is_complete();
        let transactions = app.transactions_mut();
        let _ = transactions.take_events(id);
        for side in [Side::ToServer, Side::ToClient] {
            transactions.mark_inspected(id, side, limits);
        }
        if is_complete {
            transactions.mark_logged(id);
        }
    }
    app.transactions_mut().collect();
}
