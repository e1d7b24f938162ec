//! Names that one part of the chain file gives and another refers to.
use std::collections::{BTreeMap, HashSet};

use super::check::{Reference, value_of};
use super::key::Names;
use super::node::{Content, Node};
use super::report::{Report, did_you_mean, quoted};
use super::source::Spanned;
use super::value::check_name;

/// Finds names that stand for nothing, and ports and functions that nothing uses.
pub(super) fn resolve(root: &Node, references: &[Reference], report: &mut Report) {
    let mut used: HashSet<(Names, &str)> = HashSet::new();
    let places = [(Names::Port, "ports"), (Names::Function, "functions"), (Names::Chain, "chains")];
    let known: BTreeMap<Names, Vec<&Spanned<String>>> =
        places.into_iter().map(|(of, key)| (of, names_of(root, key))).collect();
    let sets: BTreeMap<Names, HashSet<&str>> = known
        .iter()
        .map(|(of, names)| (*of, names.iter().map(|name| name.value.as_str()).collect()))
        .collect();
    for Reference { of, name: Spanned { value: name, span } } in references {
        used.insert((*of, name));
        if sets.get(of).is_none_or(|set| set.contains(name.as_str())) {
            continue;
        }
        let message = format!("there is no {} {}", of.word(), quoted(name));
        if report.is_full() {
            report.error(*span, message);
            continue;
        }
        // Names that are none are reported where they are given; they are not suggested.
        let names = || {
            let names = known.get(of).into_iter().flatten().map(|name| name.value.as_str());
            names.filter(|name| check_name(name).is_ok())
        };
        let there_are = match names().take(LISTED_MAX).collect::<Vec<_>>().join(" ") {
            list if list.is_empty() => format!("the file has no {}s", of.word()),
            list => format!("{}s: {list}", of.word()),
        };
        report.error(*span, message).hint(did_you_mean(name, names())).hint(there_are);
    }
    for of in [Names::Port, Names::Function] {
        for name in known.get(&of).into_iter().flatten() {
            if !used.contains(&(of, &name.value)) {
                let message = format!("{} {} is not used", of.word(), quoted(&name.value));
                report.warning(name.span, message).hint("name it in a chain, or remove it");
            }
        }
    }
}

fn names_of<'n>(root: &'n Node, key: &str) -> Vec<&'n Spanned<String>> {
    match value_of(root, key).map(|node| &node.content) {
        Some(Content::Map(map)) => map.iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// Most names listed in a hint.
const LISTED_MAX: usize = 20;
