//! Whole rules: what they come to, and which are refused.

mod corpus;
mod hostile;
mod keywords;
mod kinds;

use super::*;

/// Groups as they are usual, the delivered classes, and one event of each sort.
pub(super) struct Bench {
    variables: Variables,
    classes: Classes,
}

pub(super) const EVENTS: &[&str] =
    &["stream.reassembly_overlap_different_data", "http.invalid_uri", "ipv4.trunc_pkt"];

impl Bench {
    pub fn new() -> Self {
        let own = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let (variables, wrong) = Variables::new(
            &own(&[
                ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
                ("EXTERNAL_NET", "!$HOME_NET"),
                ("HTTP_SERVERS", "$HOME_NET"),
            ]),
            &own(&[("HTTP_PORTS", "80")]),
        );
        assert_eq!(wrong, []);
        Self { variables, classes: Classes::default() }
    }

    pub fn read(&self, text: &[u8]) -> Rules {
        let setup = Setup { variables: &self.variables, classes: &self.classes, events: EVENTS };
        Rules::read(&[Source { name: "test.rules", text }], &setup)
    }
}

/// What a file comes to.
pub(super) fn read(text: &str) -> Rules {
    Bench::new().read(text.as_bytes())
}

/// The only rule of a file, which loads.
pub(super) fn rule(text: &str) -> Rule {
    let mut rules = read(text);
    assert!(rules.broken.is_empty() && rules.skipped.is_empty(), "{rules:#?}");
    rules.rules.pop().unwrap()
}

/// A TCP rule with these options, and a number.
pub(super) fn tcp(options: &str) -> Rule {
    rule(&format!("alert tcp any any -> any any ({options} sid:1;)"))
}

/// Why a rule is broken, and at which column.
pub(super) fn broken(text: &str) -> (String, u32) {
    let mut rules = read(text);
    assert!(rules.rules.is_empty() && rules.skipped.is_empty(), "{text}: {rules:#?}");
    let wrong = rules.broken.pop().unwrap();
    (wrong.why, wrong.column)
}

/// The keyword that a rule is skipped for.
pub(super) fn skipped(text: &str) -> String {
    let mut rules = read(text);
    assert!(rules.rules.is_empty() && rules.broken.is_empty(), "{text}: {rules:#?}");
    rules.skipped.pop().unwrap().why
}

/// The buffers of a rule, with the number of tests of each.
pub(super) fn buffers(rule: &Rule) -> Vec<(Buffer, usize)> {
    rule.inspects.iter().map(|i| (i.buffer, i.tests.len())).collect()
}

/// The content at this place of a rule.
pub(super) fn content(rule: &Rule, inspect: usize, test: usize) -> &Content {
    match &rule.inspects[inspect].tests[test] {
        Test::Content(content) => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_of_every_part_is_read_to_its_type() {
    let rule = rule(
        "rejectboth http [$HOME_NET,!10.1.1.1] any <> !$HOME_NET [$HTTP_PORTS,8000:] \
         (msg:\"a \\\"b\\\"\\; c\"; flow:established,to_server; content:\"GET\"; http_method; \
         classtype:trojan-activity; reference:url,example.org/a\\;b; reference:cve,2020-1; \
         metadata:created_at 2020_01_01, severity Major; target:dest_ip; priority:7; gid:3; sid:20; rev:4; tag:host,5,seconds,src;)",
    );
    assert_eq!(rule.action, Action::Reject(RejectTo::Both));
    assert_eq!(rule.header.protocol, Protocol::App(App::Http));
    assert_eq!(rule.header.direction, Direction::Either);
    assert!(rule.header.src.contains("192.168.1.1".parse().unwrap()));
    assert!(!rule.header.src.contains("10.1.1.1".parse().unwrap()));
    assert!(!rule.header.dst.contains("10.1.1.1".parse().unwrap()));
    assert_eq!(rule.header.dport.ranges(), [(80, 80), (8000, 65_535)]);
    assert_eq!((&*rule.msg, rule.gid, rule.sid, rule.rev), ("a \"b\"; c", 3, 20, 4));
    assert_eq!((rule.priority, rule.class.as_ref().map(|c| c.priority)), (7, Some(1)));
    assert_eq!(&*rule.references[0].id, "example.org/a;b");
    assert_eq!(&*rule.metadata[1].1, "Major");
    assert_eq!(rule.target, Some(Target::Dst));
    assert_eq!(rule.tag, Some(Tag { scope: TagScope::Src, count: 5, unit: TagUnit::Seconds }));
    assert_eq!(rule.flow.side, Some(Side::ToServer));
    assert_eq!(rule.flow.state, Some(FlowState::Established));
}

#[test]
fn a_broken_rule_is_told_with_its_place_and_the_others_load() {
    let rules = read(
        "alert tcp any any -> any any (sid:1;)\n\
         alert tcp any any -> \\\n  any 99999 (sid:2;)\n\
         # a comment\r\n\
         alert tcp any any -> any any (smb.share; content:\"a\"; sid:3;)\r\n\
         alert tcp any any -> any any (content:\"a\"; content:\"b; sid:4;)\n\
         nonsense\n\
         alert tcp any any -> any any (sid:5;)",
    );
    let sids: Vec<u32> = rules.rules.iter().map(|r| r.sid).collect();
    assert_eq!(sids, [1, 5]);
    let told: Vec<String> = rules.broken.iter().map(NotLoaded::to_string).collect();
    assert_eq!(
        told,
        [
            "test.rules:3:7: `99999` is no port (sid 2)",
            "test.rules:6:52: the quotes are not closed: a `;` within them is written `\\;` (sid 4)",
            "test.rules:7:9: the rule has no options: `(...)` behind its header",
        ],
    );
    assert_eq!(rules.skipped[0].to_string(), "test.rules:5:31: smb.share (sid 3)");
}

#[test]
fn of_two_rules_of_a_number_the_newer_revision_stays_and_the_other_is_told() {
    let rule = |options: &str| format!("alert tcp any any -> any any ({options})\n");
    let text: String =
        ["sid:1; rev:1;", "sid:1; rev:6;", "sid:1; rev:4;", "sid:2; rev:2;", "sid:1; gid:9;"]
            .iter()
            .map(|o| rule(o))
            .collect();
    let rules = read(&text);
    let loaded: Vec<_> = rules.rules.iter().map(|r| (r.gid, r.sid, r.rev)).collect();
    assert_eq!(loaded, [(1, 1, 6), (1, 2, 2), (9, 1, 0)]);
    let lines: Vec<u32> = rules.replaced.iter().map(|r| r.line).collect();
    assert_eq!(lines, [1, 3]);
    assert_eq!(rules.replaced[0].why, "revision 6 of test.rules:2 is newer");
}

#[test]
fn headers_that_are_none_are_refused_where_they_are_wrong() {
    let cases = [
        ("allert tcp any any -> any any (sid:1;)", 1),
        ("alert foo any any -> any any (sid:1;)", 7),
        ("alert tcp 1.2.3 any -> any any (sid:1;)", 11),
        ("alert tcp any 70000 -> any any (sid:1;)", 15),
        ("alert tcp any any <- any any (sid:1;)", 19),
        ("alert tcp any any -> any (sid:1;)", 25),
        ("alert tcp any any -> any any any (sid:1;)", 30),
        ("alert tcp any any -> any any sid:1;", 30),
        ("alert tcp any any -> any any (sid:1;) x", 37),
        ("alert tcp any any -> any any (sid:1)", 31),
        ("alert tcp any any -> $NOWHERE any (sid:1;)", 22),
        ("alert tcp any any -> any any (", 30),
        ("alert tcp any any -> any any ()", 30),
    ];
    for (text, column) in cases {
        assert_eq!(broken(text).1, column, "{text}: {}", broken(text).0);
    }
    assert_eq!(skipped("alert smb any any -> any any (sid:1;)"), "smb");
    assert_eq!(skipped("alert tcp any any => any any (sid:1;)"), "=>");
}

#[test]
fn brackets_of_which_there_are_too_many_or_too_few_are_forgiven() {
    for options in ["(sid:1;", "( sid:1; )\t\r", "((sid:1;))", "(sid:1;))"] {
        assert_eq!(rule(&format!("alert tcp any any -> any any {options}")).sid, 1);
    }
}

#[test]
fn a_number_is_needed_once_and_fits() {
    let of = |options: &str| format!("alert tcp any any -> any any ({options})");
    for options in [
        "msg:\"a\";",
        "sid:0;",
        "sid:1; sid:2;",
        "sid:99999999999999999999;",
        "sid:1; gid:99999999999999999999;",
        "sid:1; rev:99999999999999999999;",
        "sid:-1;",
        "sid:;",
        "sid;",
    ] {
        broken(&of(options));
    }
}

#[test]
fn a_text_that_is_no_utf_8_is_a_rule_all_the_same() {
    let text = b"alert tcp any any -> any any (msg:\"\xff\"; content:\"\xfe|ff|\"; pcre:\"/\xe9/\"; sid:1;)";
    let rules = Bench::new().read(text);
    assert_eq!(&*content(&rules.rules[0], 0, 0).pattern, [0xfe, 0xff]);
    assert_eq!(&*rules.rules[0].msg, "\u{fffd}");
}
