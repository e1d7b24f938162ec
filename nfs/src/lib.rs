//! The network functions of nfv, one file each, none knowing another.
#![forbid(unsafe_code)]

use nfv_core::nf::Kind;

pub mod count;
pub mod firewall;
pub mod ids;
pub mod impair;
pub mod lb;
pub mod mirror;
pub mod nat;
pub mod ratelimit;
pub mod route;
pub mod tap_out;
pub mod wanopt;

/// All types of NF, by the name that a chain file's `type` gives.
pub const KINDS: &[&Kind] = &[
    &count::KIND,
    &firewall::KIND,
    &ids::KIND,
    &impair::KIND,
    &lb::KIND,
    &mirror::KIND,
    &nat::KIND,
    &ratelimit::KIND,
    &route::KIND,
    &tap_out::KIND,
    &wanopt::KIND,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What a type of NF must have besides its file.
    #[test]
    fn each_type_has_a_chain_a_test_and_a_page_that_says_what_it_does() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut missing = Vec::new();
        for kind in KINDS {
            let name = kind.name;
            for file in
                [format!("chains/{name}.yaml"), format!("tests/{}.rs", name.replace('-', "_"))]
            {
                if !root.join(&file).exists() {
                    missing.push(file);
                }
            }
            let page = kind.page();
            let on_page = std::fs::read_to_string(root.join(format!("docs/nf/{name}.md")));
            if on_page.is_ok_and(|text| text != page)
                || !root.join(format!("docs/nf/{name}.md")).exists()
            {
                missing.push(format!("nfv schema --doc {name} > docs/nf/{name}.md"));
            }
            let words: Vec<&str> =
                page.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).collect();
            let keys = kind.keys.iter().map(|k| k.name);
            let named = kind.drops.iter().chain(kind.counters).map(|n| n.name);
            for word in keys.chain(named).filter(|w| !words.contains(w)) {
                missing.push(format!("`{word}` in the header of {name}"));
            }
        }
        assert!(missing.is_empty(), "missing: {missing:#?}");
    }
}
