//! `wanopt` with logs in files: what both boxes saw before a restart they know after it.

#[path = "wanopt/sites.rs"]
mod sites;
mod testkit;

use std::path::Path;

use sites::Sites;
use testkit::{is_root, must, skip};

/// Bytes of the file that is fetched.
const SIZE: u64 = 10_000_000;

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn what_was_seen_before_both_boxes_restarted_is_a_twelfth_and_without_their_files_it_is_as_at_first()
 {
    if !is_root() {
        return skip("wanopt_store", "making namespaces needs root");
    }
    let [served, a, b] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let text = served.path().join("text");
    must(&format!(
        "find /usr/include -name '*.h' | sort | tar cf - -P -T - 2>/dev/null | head -c {SIZE} > {}",
        text.display()
    ));
    assert_eq!(std::fs::metadata(&text).unwrap().len(), SIZE, "there is too little text here");
    let mut sites = Sites::start_stored([a.path(), b.path()]);
    sites.serve("b1", served.path());
    let share = |sites: &Sites, host| {
        let fetched = sites.fetch(host, "b1", "text");
        let share = fetched.bytes_on_link as f64 * 100.0 / SIZE as f64;
        println!("{share:.1} %: {fetched:?}");
        share
    };
    let restart = |sites: &mut Sites| ["a", "b"].iter().for_each(|site| sites.restart(site));
    sites.greet();
    let first = share(&sites, "a1");
    let known = share(&sites, "a2");
    restart(&mut sites);
    sites.greet();
    let again = share(&sites, "a1");
    // One of them, too.
    sites.restart("a");
    sites.greet();
    let alone = share(&sites, "a2");
    // The control: the files are gone.
    sites.stop();
    empty(a.path());
    empty(b.path());
    sites.go_on();
    sites.greet();
    let anew = share(&sites, "a1");
    assert!(first <= 50.0 && known <= 8.0, "{first:.1} %, then {known:.1} %");
    assert!(again <= 8.0, "{again:.1} % after both restarted");
    assert!(alone <= 8.0, "{alone:.1} % after one did");
    assert!(anew > 0.8 * first, "control: {anew:.1} % without the files, {first:.1} % at first");
    sites.finish();
}
