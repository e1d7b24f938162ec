//! How flows end.

use super::*;
use crate::ids::eve::{FlowEnd, FlowState};
use crate::ids::stream::TcpState;

/// Both sides say that they are done.
fn close(talk: &mut Talk, site: &mut Site) {
    let _ = site.sees(&talk.frame(Client, "fa", &[]));
    talk.sent(Client, 1);
    let _ = site.sees(&talk.frame(Server, "fa", &[]));
    talk.sent(Server, 1);
    let _ = site.sees(&talk.frame(Client, "a", &[]));
}

#[test]
fn a_closed_connection_is_told_when_its_time_is_up() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    close(&mut talk, &mut site);
    site.waits(59);
    assert!(site.told.0.is_empty());
    site.waits(3);
    assert_eq!(site.told.kinds(), ["flow"]);
    let flow = site.told.flows()[0];
    assert_eq!((flow.state, flow.reason), (FlowState::Closed, FlowEnd::Timeout));
    assert_eq!(flow.tcp.and_then(|tcp| tcp.state), Some(TcpState::Closed));
    assert_eq!(site.inspector.flows(), 0);
}

#[test]
fn an_answer_that_ends_with_the_connection_is_told_then() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    let _ = talk.says(&mut site, Server, b"HTTP/1.1 200 OK\r\n\r\nas long as it is");
    assert!(site.told.0.is_empty());
    close(&mut talk, &mut site);
    assert_eq!(site.told.kinds(), ["http"]);
}

#[test]
fn a_datagram_after_the_time_of_its_flow_begins_another_one() {
    let mut site = Site::new(|_| ());
    let _ = site.sees(&query());
    site.now.0 += 32_000_000_000;
    let _ = site.sees(&query());
    let told = site.ends();
    assert_eq!(told.kinds(), ["dns", "flow", "dns", "flow"]);
    let [first, second] = told.flows()[..] else { panic!("two flows") };
    assert_eq!((first.reason, second.reason), (FlowEnd::Timeout, FlowEnd::Shutdown));
    assert_ne!(told.0[0].head.flow_id, told.0[2].head.flow_id);
}

#[test]
fn a_new_connection_between_the_same_ends_ends_the_old_one() {
    let mut site = Site::new(|_| ());
    let mut talk = Talk::open(&mut site, 80);
    let _ = talk.says(&mut site, Client, REQUEST);
    close(&mut talk, &mut site);
    talk.next = [500_000, 900_000];
    let [syn, syn_ack, ack] = talk.handshake();
    for frame in [syn, syn_ack, ack] {
        let _ = site.sees(&frame);
    }
    let _ = talk.says(&mut site, Client, REQUEST);
    let told = site.ends();
    let [old, new] = told.flows()[..] else { panic!("two flows: {:?}", told.kinds()) };
    assert_eq!((old.reason, new.reason), (FlowEnd::TcpReuse, FlowEnd::Shutdown));
    assert_eq!((old.summary.counts.packets, new.summary.counts.packets), ([5, 3], [3, 2]));
    assert_eq!(told.of(Kind::Http).len(), 2);
}

#[test]
fn flows_that_are_idle_for_longer_than_their_protocol_may_be_are_told_each_once() {
    let mut site = Site::new(|_| ());
    let _ = Talk::open(&mut site, 80);
    let _ = site.sees(&query());
    let _ = site.sees(&udp6(1, 2, b"x"));
    let _ = site.sees(&response());
    site.waits(31);
    assert_eq!(site.told.flows().len(), 1);
    site.waits(300);
    assert_eq!(site.told.flows().len(), 2);
    site.waits(300);
    assert_eq!(site.told.flows().len(), 3);
    assert_eq!(site.inspector.flows(), 0);
}
