//! What matches leave for later ones.

use std::sync::Arc;

use super::*;

fn flow_of(text: &str, payloads: &[&[u8]]) -> Vec<Sids> {
    let mut watch = Watch::new(text);
    payloads.iter().map(|payload| watch.of_flow(&Crafted::udp(payload), UP)).collect()
}

#[test]
fn a_bit_of_a_flow_is_set_for_later_packets_and_rules() {
    let text = r#"
alert udp any any -> any any (content:"a"; flowbits:set,x; flowbits:noalert; sid:1;)
alert udp any any -> any any (content:"b"; flowbits:isset,x; sid:2;)
alert udp any any -> any any (content:"c"; flowbits:isnotset,x; sid:3;)
alert udp any any -> any any (content:"d"; flowbits:unset,x; flowbits:noalert; sid:4;)
alert udp any any -> any any (content:"e"; flowbits:toggle,x; sid:5;)
alert udp any any -> any any (content:"b"; flowbits:isset,y|x; sid:6;)
"#;
    let told = flow_of(text, &[b"b", b"c", b"ab", b"c", b"d", b"b", b"e", b"b"]);
    let expected: [&[u32]; 8] = [&[], &[3], &[2, 6], &[], &[], &[], &[5], &[2, 6]];
    assert_eq!(told, expected);
}

#[test]
fn bits_need_a_flow() {
    let text = r#"alert udp any any -> any any (content:"a"; flowbits:isnotset,x; sid:1;)"#;
    let mut watch = Watch::new(text);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), [1]);
    assert_eq!(watch.detector.ruleset().len(), 1);
}

#[test]
fn integers_of_a_flow_are_counted_and_compared() {
    let text = r#"
alert udp any any -> any any (content:"a"; flowint:n,notset; flowint:n,=,1; noalert; sid:1;)
alert udp any any -> any any (content:"a"; flowint:n,isset; flowint:n,+,1; noalert; sid:2;)
alert udp any any -> any any (content:"b"; flowint:n,>=,3; sid:3;)
alert udp any any -> any any (content:"c"; flowint:m,=,n; noalert; sid:4;)
alert udp any any -> any any (content:"d"; flowint:m,==,n; sid:5;)
"#;
    let told = flow_of(text, &[b"b", b"a", b"b", b"a", b"b", b"a", b"b", b"d", b"c", b"d"]);
    let counts: Vec<usize> = told.iter().map(Vec::len).collect();
    assert_eq!(counts[..5], [0, 0, 0, 0, 1]);
    assert_eq!(counts[7..], [0, 0, 1]);
}

#[test]
fn bits_of_hosts_are_shared_by_flows_and_workers_and_expire() {
    let text = r#"
alert udp any any -> any any (content:"a"; xbits:set,x,track ip_src,expire 10; noalert; sid:1;)
alert udp any any -> any any (content:"b"; xbits:isset,x,track ip_src; sid:2;)
alert udp any any -> any any (content:"c"; xbits:set,p,track ip_pair,expire 10; noalert; sid:3;)
alert udp any any -> any any (content:"d"; xbits:isset,p,track ip_pair; sid:4;)
alert udp any any -> any any (content:"e"; hostbits:set,h,dst; noalert; sid:5;)
alert udp any any -> any any (content:"f"; hostbits:isset,h,src; sid:6;)
"#;
    let memory = Arc::new(Memory::new(0));
    let mut one = Watch::with(ruleset(text), Arc::clone(&memory));
    let mut other = Watch::with(ruleset(text), memory);
    one.lone(&Crafted::udp(b"a"));
    assert_eq!(other.lone(&Crafted::udp(b"b").after(10)), [2]);
    assert_eq!(other.lone(&Crafted::udp(b"b").after(11)), NONE);
    assert_eq!(other.lone(&Crafted::udp(b"b").from([10, 0, 0, 7])), NONE);
    one.lone(&Crafted::udp(b"c"));
    assert_eq!(other.lone(&Crafted::udp(b"d").back()), [4]);
    assert_eq!(other.lone(&Crafted::udp(b"d").from([10, 0, 0, 7])), NONE);
    one.lone(&Crafted::udp(b"e"));
    assert_eq!(other.lone(&Crafted::udp(b"f").back().after(300)), [6]);
    assert_eq!(other.lone(&Crafted::udp(b"f").back().after(301)), NONE);
    assert_eq!(other.lone(&Crafted::udp(b"f")), NONE);
}

#[test]
fn another_ruleset_begins_with_a_flow_anew() {
    let text = r#"
alert udp any any -> any any (content:"a"; flowbits:set,x; noalert; sid:1;)
alert udp any any -> any any (content:"b"; flowbits:isset,x; sid:2;)
"#;
    let mut watch = Watch::new(text);
    watch.of_flow(&Crafted::udp(b"a"), UP);
    assert!(!watch.state.is_blank());
    assert_eq!(watch.of_flow(&Crafted::udp(b"b"), UP), [2]);
    watch.detector = Detector::new(ruleset(text), Arc::new(Memory::new(0)));
    assert_eq!(watch.of_flow(&Crafted::udp(b"b"), UP), NONE);
    assert!(watch.state.is_blank());
}

#[test]
fn a_flow_in_which_nothing_is_left_is_blank() {
    let mut watch = Watch::new(r#"alert udp any any -> any any (content:"a"; sid:1;)"#);
    assert_eq!(watch.of_flow(&Crafted::udp(b"a"), UP), [1]);
    assert!(watch.state.is_blank());
}

#[test]
fn what_is_set_in_a_flow_is_known_by_name() {
    let text = r#"
alert udp any any -> any any (content:"a"; flowbits:set,one; sid:1;)
alert udp any any -> any any (content:"b"; flowbits:set,two; sid:2;)
alert udp any any -> any any (content:"a"; flowint:n,=,7; sid:3;)
"#;
    let mut watch = Watch::new(text);
    watch.of_flow(&Crafted::udp(b"a"), UP);
    let rules = watch.detector.ruleset();
    assert_eq!(rules.bits_of(&watch.state).collect::<Vec<_>>(), ["one"]);
    assert_eq!(rules.integers_of(&watch.state).collect::<Vec<_>>(), [("n", 7)]);
    assert_eq!(ruleset(text).bits_of(&watch.state).count(), 0);
}
