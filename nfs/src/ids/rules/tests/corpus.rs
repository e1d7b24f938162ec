//! Rules as others write them, and many of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

/// All files under `folder` whose names end in `.rules`.
fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rules") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_rules_of_the_conformance_cases_load_but_those_of_other_keywords() {
    let shared = std::env::var("NFV_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let folder = Path::new(&shared).join("suricata-verify/cases");
    let files = rule_files(&folder);
    if files.is_empty() {
        return println!("SKIPPED rules of the cases: there are none in {}", folder.display());
    }
    let bench = Bench::new();
    let (mut loaded, mut skipped, mut broken) = (0, BTreeMap::new(), Vec::new());
    for file in &files {
        let rules = bench.read(&std::fs::read(file).unwrap());
        loaded += rules.rules.len();
        for rule in rules.skipped {
            *skipped.entry(rule.why).or_insert(0) += 1;
        }
        broken.extend(rules.broken.iter().map(|b| format!("{}: {b}", file.display())));
    }
    let count: usize = skipped.values().sum();
    println!("{} files: {loaded} rules load, {count} are skipped {skipped:?}", files.len());
    assert_eq!(broken, Vec::<String>::new());
    assert!(count * 20 < loaded, "{count} of {loaded} are skipped");
}

/// A rule of the sort that large sets have.
fn realistic(number: usize) -> String {
    let tail = format!(
        "reference:url,example.org/{number}; classtype:trojan-activity; sid:{}; rev:3; \
         metadata:created_at 2020_01_01, updated_at 2021_01_01;)\n",
        number + 1,
    );
    let head = match number % 5 {
        0 => format!(
            "alert http $HOME_NET any -> $EXTERNAL_NET any (msg:\"A{number}\"; flow:established,to_server; \
             http.method; content:\"POST\"; http.uri; content:\"/gate{number}.php\"; endswith; fast_pattern; \
             http.request_body; content:\"id=\"; startswith; pcre:\"/^id=[a-f0-9]{{32}}&v={number}/\"; "
        ),
        1 => format!(
            "alert tcp $EXTERNAL_NET $HTTP_PORTS -> $HOME_NET [1024:,!8080] (msg:\"B{number}\"; flow:established,from_server; \
             content:\"|00 01 02|b{number}\"; depth:20; content:\"|0d 0a|\"; distance:4; within:10; byte_test:4,>,1000,8,relative; "
        ),
        2 => format!(
            "alert dns $HOME_NET any -> any any (msg:\"C{number}\"; dns.query; dotprefix; content:\".bad{number}.example\"; endswith; nocase; "
        ),
        3 => format!(
            "alert tls $HOME_NET any -> $EXTERNAL_NET any (msg:\"D{number}\"; flow:established,to_server; tls.sni; \
             content:\"c{number}.example.net\"; bsize:{}; ",
            13 + number.to_string().len(),
        ),
        _ => format!(
            "alert http any any -> $HOME_NET any (msg:\"E{number}\"; flow:established,to_server; content:\"/e{number}\"; http_uri; nocase; \
             content:\"User-Agent|3a| x\"; http_header; pcre:\"/\\/e{number}\\?[a-z]+=(?:\\d{{1,5}}|[^&]{{3,40}})(?=&|$)/Ui\"; \
             threshold:type limit, track by_src, seconds 60, count 1; "
        ),
    };
    head + &tail
}

#[test]
fn fifty_thousand_rules_are_read_in_seconds() {
    let text: String = (0..50_000).map(realistic).collect();
    let begin = Instant::now();
    let rules = read(&text);
    let took = begin.elapsed();
    let expressions = rules.rules.iter().flat_map(|r| &r.inspects).flat_map(|i| &i.tests);
    let expressions = expressions.filter(|t| matches!(t, Test::Pcre(_))).count();
    println!("50,000 rules, {expressions} of them with an expression: {took:?}");
    assert_eq!((rules.rules.len(), rules.broken.len(), rules.skipped.len()), (50_000, 0, 0));
    assert!(took.as_secs() < 120, "{took:?}");
}
