//! Texts that are made to hurt.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn within_a_second(what: &str, text: &str) {
    let begin = Instant::now();
    let rules = read(text);
    let all = rules.rules.len() + rules.broken.len() + rules.skipped.len();
    assert_eq!(all, 1, "{what}");
    assert!(begin.elapsed().as_secs() < 3, "{what} took {:?}", begin.elapsed());
}

#[test]
fn no_rule_takes_long_to_refuse_or_to_read() {
    let tcp = |options: &str| format!("alert tcp any any -> any any ({options} sid:1;)");
    let many = |part: &str| part.repeat(100_000);
    within_a_second("a line of a megabyte", &tcp(&format!("msg:\"{}\";", "a".repeat(1 << 20))));
    within_a_second("brackets", &format!("alert tcp {}", many("[")));
    within_a_second(
        "lists",
        &format!("alert tcp [{}1.1.1.1] any -> any any (sid:1;)", many("1.1.1.2,")),
    );
    within_a_second("continued lines", &tcp(&many("\\\n")));
    within_a_second("semicolons", &tcp(&many(";")));
    within_a_second("contents", &tcp(&"content:\"a\"; distance:0; nocase; ".repeat(1_300)));
    within_a_second("groups", &tcp(&format!("pcre:\"/{}/\";", many("("))));
    within_a_second(
        "nested repetitions",
        &tcp("pcre:\"/(((((a{1,100}){1,100}){1,100}){1,100}){1,100})/\";"),
    );
    within_a_second("options", &tcp(&"content:\"a\"; nocase;".repeat(50_000)));
    within_a_second("look-ahead", &tcp(&format!("pcre:\"/{}a/\";", "(?=a)".repeat(1_500))));
    within_a_second("classes", &tcp(&format!("pcre:\"/{}/\";", "[^a-z]{1,9}".repeat(700))));
    within_a_second("named buffers", &tcp(&"dns.query; content:\"a\"; ".repeat(2_000)));
    within_a_second(
        "variables",
        &tcp(&(0..500).map(|n| format!("byte_extract:1,0,v{n};")).collect::<String>()),
    );
}

/// Pieces of rules, right and wrong, in any order.
fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "alert ",
        "tcp ",
        "http ",
        "any ",
        "$HOME_NET ",
        "![",
        "]",
        "1.2.3.4/8",
        "80:",
        "-> ",
        "<> ",
        "(",
        ")",
        ";",
        "content:\"a|41 4\";",
        "content:\"abc\";",
        "content:!\"b\";",
        "nocase;",
        "offset:1;",
        "depth:9;",
        "distance:-1;",
        "within:9;",
        "startswith;",
        "endswith;",
        "fast_pattern:only;",
        "fast_pattern:0,1;",
        "http.uri;",
        "http_uri;",
        "file.data;",
        "pkt_data;",
        "dns.query;",
        "to_md5;",
        "xor:\"00\";",
        "pcrexform:\"(a)\";",
        "base64_decode:bytes 4;",
        "base64_data;",
        "pcre:\"/a(b|[^c]){2}$/Ri\";",
        "pcre:\"/(?=a)\\1/U\";",
        "isdataat:!1,relative;",
        "byte_test:1,>,x,0;",
        "byte_extract:1,0,x;",
        "byte_jump:1,0,relative;",
        "byte_math:bytes 1,offset 0,oper +,rvalue x,result y;",
        "bsize:1<>9;",
        "urilen:5;",
        "dsize:>1;",
        "flags:S,12;",
        "flow:to_server;",
        "flowbits:set,a;",
        "flowint:a,+,1;",
        "xbits:set,a,track ip_src;",
        "threshold:type limit,track by_src,count 1,seconds 1;",
        "sid:1;",
        "rev:2;",
        "msg:\"\\\"\";",
        "metadata:a b;",
        "\\",
        "\"",
        "\n",
        "\\\n",
        "\r",
        "#",
        "|",
        "/",
        "!",
        ",",
        ":",
        "é",
        "\u{feff}",
    ]);
    prop_oneof![9 => words.prop_map(str::to_owned), 1 => ".{0,6}"]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        Bench::new().read(&text);
    }

    #[test]
    fn no_rule_of_pieces_makes_it_panic_and_each_is_accounted_for(pieces in prop::collection::vec(piece(), 0..30)) {
        let text: String = pieces.concat();
        let body = format!("alert tcp any any -> any any ({text}sid:9;)");
        for text in [text, body] {
            let rules = Bench::new().read(text.as_bytes());
            let all = rules.rules.len() + rules.broken.len() + rules.skipped.len() + rules.replaced.len();
            prop_assert_eq!(all, super::super::lines::rules(text.as_bytes()).count());
            for rule in &rules.rules {
                for inspect in &rule.inspects {
                    prop_assert!(!inspect.tests.is_empty());
                }
                if let Some(fast) = rule.fast_pattern {
                    let content = content(rule, fast.inspect, fast.test);
                    prop_assert!(fast.length > 0);
                    prop_assert!(usize::from(fast.offset + fast.length) <= content.pattern.len());
                }
            }
        }
    }

    #[test]
    fn no_expression_makes_it_panic_nor_a_search(
        pattern in "[a-c\\[\\](){}|*+?.^$\\\\0-3,:<>=!PxdwsbBQEKRk'#i-]{0,24}",
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        from in 0_usize..50,
    ) {
        let source = RegexSource { pattern: pattern.as_bytes().into(), flags: Flags::default() };
        if let Ok(regex) = Regex::new(source) {
            let mut scratch = Scratch::new(0);
            let found = regex.find(&bytes, from, &mut scratch);
            if let Found::At(at) = &found {
                prop_assert!(at.start >= from && at.start <= at.end && at.end <= bytes.len());
            }
            let groups = regex.groups(&bytes, from, &mut scratch);
            match found {
                Found::At(at) => prop_assert_eq!(groups.and_then(|g| g[0].clone()), Some(at)),
                _ => prop_assert_eq!(groups, None),
            }
        }
    }
}
