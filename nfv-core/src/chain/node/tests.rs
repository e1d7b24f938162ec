use std::sync::Arc;

use super::super::testing::shown;
use super::*;

fn read(text: &str) -> (Option<Node>, Vec<String>) {
    let source = Arc::new(Source::from_bytes("a", text.into()).unwrap());
    let mut report = Report::new(source.clone());
    let node = Node::read(&source, &|name| (name == "A").then(|| "1: 2".into()), &mut report);
    (node, shown(&report))
}

/// The tree in flow style, quoted scalars in quotes.
fn flow(node: &Node) -> String {
    let all = |parts: Vec<String>| parts.join(" ");
    match &node.content {
        Content::Null => "~".into(),
        Content::Broken => "?".into(),
        Content::Scalar(Scalar { text, style: Style::Plain }) => text.clone(),
        Content::Scalar(Scalar { text, style: Style::Quoted }) => format!("{text:?}"),
        Content::List(list) => format!("[{}]", all(list.iter().map(flow).collect())),
        Content::Map(map) => {
            let pairs = map.iter().map(|(k, v)| format!("{}: {}", k.value, flow(v)));
            format!("{{{}}}", all(pairs.collect()))
        }
    }
}

fn sound(text: &str) -> String {
    let (node, mistakes) = read(text);
    assert_eq!(mistakes, Vec::<String>::new(), "{text}");
    flow(&node.unwrap())
}

fn mistakes(text: &str) -> Vec<String> {
    read(text).1
}

#[test]
fn scalars_keep_the_text_that_was_written() {
    assert_eq!(
        sound("[0000:03:02.0, 1_000, 0x10, 010, 10.0, no, On, 12:30:45, 1e3, .5, true]"),
        "[0000:03:02.0 1_000 0x10 010 10.0 no On 12:30:45 1e3 .5 true]"
    );
    assert_eq!(sound("['it''s', \"a\\tb\", !!str 5]"), r#"["it's" "a\tb" "5"]"#);
    assert_eq!(sound("a: |\n  x\n  y\nb: ~\nc:\nd: ''\n"), r#"{a: "x\ny\n" b: ~ c: ~ d: ""}"#);
}

#[test]
fn every_value_knows_its_place() {
    let text = "é: { k: [1, 22] }\nm:\n  n: x\n  o: y\n";
    let Some(Node { content: Content::Map(map), .. }) = read(text).0 else { panic!() };
    let place = |span: Span| {
        (span.line, span.column, text.get(span.start as usize..span.end as usize).unwrap())
    };
    assert_eq!(place(map[0].0.span), (1, 1, "é"));
    assert_eq!(place(map[0].1.span), (1, 4, "{ k: [1, 22] }"));
    assert_eq!(place(map[1].1.span), (3, 3, "n: x"));
    let Content::Map(inner) = &map[0].1.content else { panic!() };
    assert_eq!(place(inner[0].1.span), (1, 9, "[1, 22]"));
    let Content::List(list) = &inner[0].1.content else { panic!() };
    assert_eq!(place(list[1].span), (1, 13, "22"));
}

#[test]
fn a_duplicate_key_is_reported_beside_other_mistakes_and_the_first_counts() {
    let (node, mistakes) = read("a: 1\nb: {c: 1, c: 2}\na: ${X}\n");
    assert_eq!(
        mistakes,
        [
            "2:11: the key `c` stands here twice",
            "3:1: the key `a` stands here twice",
            "3:4: the environment variable `X` is not set",
        ]
    );
    assert_eq!(flow(&node.unwrap()), "{a: 1 b: {c: 1}}");
}

#[test]
fn a_value_from_the_environment_cannot_change_the_structure() {
    assert_eq!(sound("a: ${A}\nb: \"${B:-[x]}\"\nc: $${A}\n"), r#"{a: 1: 2 b: "[x]" c: ${A}}"#);
}

#[test]
fn anchors_and_aliases_repeat_a_value() {
    assert_eq!(sound("a: &x [1, 2]\nb: *x\nc: &x 3\nd: *x\n"), "{a: [1 2] b: [1 2] c: 3 d: 3}");
    assert_eq!(mistakes("a: *x\nb: 1\nb: 2\n")[0], "1:4: no anchor `&x` before this alias");
    assert_eq!(mistakes("a: *x\nb: 1\nb: 2\n").len(), 2);
    assert_eq!(mistakes("a: &x [*x]\n"), ["1:8: an anchored value cannot contain itself"]);
}

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let uses = vec![format!("*a{}", n - 1); 10].join(", ");
        text += &format!("a{n}: &a{n} [{uses}]\n");
    }
    assert!(mistakes(&text)[0].ends_with("the file grows too large here"), "{:?}", mistakes(&text));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(100));
    assert!(mistakes(&long)[0].ends_with("the file grows too large here"));
}

#[test]
fn nesting_has_a_limit_also_through_aliases() {
    let nested = |n: usize| format!("{}x{}", "[".repeat(n), "]".repeat(n));
    assert!(read(&nested(DEPTH_MAX)).0.is_some());
    assert_eq!(mistakes(&nested(DEPTH_MAX + 1)).len(), 1);
    assert_eq!(mistakes(&"[".repeat(100_000)).len(), 1);
    let block: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(mistakes(&block).len(), 1);
    let mixed: String = (0..50).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let mixed = format!("{mixed}{}{}\n", " ".repeat(50), nested(20));
    assert!(mistakes(&mixed)[0].ends_with("nested deeper than 64 levels"));
    let aliased = format!("a: &a {}\nb: {}\n", nested(40), nested(40).replace('x', "*a"));
    assert!(mistakes(&aliased)[0].ends_with("nested deeper than 64 levels"));
}

#[test]
fn what_is_not_yaml_is_said_with_its_place() {
    for (text, mistake) in [
        ("a:\n\t- b\n", "2:2: not YAML: tabs disallowed within this context (block indentation)"),
        ("a: {b: c\n", "1:4: not YAML: unclosed bracket '{'"),
        ("a: b: c\n", "1:5: not YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 2\n", "3:1: a second YAML document begins"),
        ("? [a]\n: b\n", "1:3: a key must be a plain word"),
        ("a: !foo 1\n", "1:9: the tag `!foo` means nothing in a chain file"),
        ("a: &d {b: c}\ne: {<<: *d}\n", "2:5: YAML 1.2 has no merge key `<<`"),
    ] {
        assert_eq!(mistakes(text), [mistake], "{text}");
    }
}

#[test]
fn a_variable_in_braces_without_quotes_gets_the_hint_to_quote_it() {
    let source = Arc::new(Source::from_bytes("a", "a: {b: ${A}}\n".into()).unwrap());
    let mut report = Report::new(source.clone());
    assert!(Node::read(&source, &|_| None, &mut report).is_none());
    let shown = report.render(super::super::report::Color::Never);
    assert!(shown.contains("put a value with ${...} in quotes"), "{shown}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "([-?:,\\[\\]{}#&*!|>'\"%@`$ \\n\\r\\tax~<]|\\$\\{A\\}|é){0,60}") {
        let (node, mistakes) = read(&text);
        proptest::prop_assert!(node.is_some() || !mistakes.is_empty());
    }
}
