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
