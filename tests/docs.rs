//! The chain files in the pages are right, and so are those in chains/.

use std::path::{Path, PathBuf};
use std::process::Command;

const NFV: &str = env!("CARGO_BIN_EXE_nfv");

fn check(file: &Path) -> Result<(), String> {
    let output = Command::new(NFV).arg("check").arg(file).output().expect("nfv starts");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into())
    }
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

#[test]
fn every_example_chain_is_right() {
    let chains = files("chains", "yaml");
    assert!(chains.len() >= 8, "{chains:?}");
    for chain in chains {
        assert_eq!(check(&chain), Ok(()), "{}", chain.display());
    }
}

#[test]
fn every_chain_file_in_the_pages_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut pages = files("docs", "md");
    pages.push("README.md".into());
    let mut count = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let file = folder.path().join("chain.yaml");
            std::fs::write(&file, block).unwrap();
            assert_eq!(check(&file), Ok(()), "{}:\n{block}", page.display());
            count += 1;
        }
    }
    assert!(count >= 4, "{count} chain files were found");
}

#[test]
fn every_reason_why_a_packet_is_of_no_flow_and_every_key_of_flows_is_in_the_page() {
    let page = std::fs::read_to_string("docs/flows.md").unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("nfv-core/src/{file}")).unwrap();
    let reasons =
        ["flow/limits.rs", "flow/fragment/refused.rs", "flow/tcp/invalid.rs"].map(read).concat();
    let keys = read("chain/file_keys.rs");
    let keys = keys.split("const FLOWS").nth(1).and_then(|k| k.split("};").next()).unwrap();
    let names = |text: &str| -> Vec<String> {
        text.split("name: \"").skip(1).map(|n| n.split('"').next().unwrap().to_owned()).collect()
    };
    let (reasons, keys) = (names(&reasons), names(keys));
    assert!(reasons.len() >= 27 && keys.len() >= 7, "{reasons:?} {keys:?}");
    for name in reasons.iter().chain(&keys) {
        assert!(page.contains(&format!("| `{name}` |")), "`{name}` has no line in docs/flows.md");
    }
}
