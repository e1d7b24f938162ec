//! What users get wrong, and what they are told: one clear error, where, what to do, and exit 2.

use std::process::{Command, Output};

const NFV: &str = env!("CARGO_BIN_EXE_nfv");

fn nfv(words: &[&str]) -> Output {
    Command::new(NFV).args(words).output().expect("nfv starts")
}

/// `nfv run` of chains/forward.yaml with these EAL options, and this device as its port `lan`.
fn run(eal: &[&str], lan: &str) -> (Option<i32>, String, String) {
    let output = Command::new(NFV)
        .args(["run", "--no-huge", "-m", "256", "--no-pci"])
        .args(eal)
        .args(["--", "chains/forward.yaml", "--duration", "1"])
        .args(["--control", "/nonexistent/nfv.sock"])
        .env("LAN", lan)
        .output()
        .expect("nfv starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn all_mistakes_of_a_chain_file_are_told_at_once_each_with_its_place_and_a_remedy() {
    let file = "tests/data/ten-mistakes.yaml";
    let expected = [
        ("2:34", "`mtu`: 20 is out of range", "68 to 9600"),
        ("3:10", "unknown key `devise` in port `wan`", "did you mean `device`?"),
        ("5:17", "there is no type of function `firewal`", "did you mean `firewall`?"),
        ("9:23", "unknown key `dports` in a firewall rule", "did you mean `dport`?"),
        ("10:27", "`src`: `10.0.0.0/33` is not an IPv4 or IPv6 prefix", "such as `10.0.0.0/8`"),
        ("11:30", "`dport`: `70000` is not a port or a range of ports", "0 to 65535"),
        ("12:34", "`rate`: `10` has no unit", "`10kpps` or `1Gbps`"),
        ("14:37", "there is no function `gat`", "did you mean `gate`?"),
        ("14:47", "there is no port `wann`", "did you mean `wan`?"),
        ("15:41", "`oneway`: `yes` is not true or false", "write `true`"),
        ("16:3", "the key `back` stands here twice", "also in line 15, column 3"),
    ];
    for words in [&["check", file][..], &["run", "--no-pci", "--", file]] {
        let output = nfv(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = told.lines().collect();
        let heads = lines.iter().filter(|l| l.starts_with(file) && !l.contains(": warning: "));
        assert_eq!(heads.count(), expected.len(), "{told}");
        for (place, what, remedy) in expected {
            let head = format!("{file}:{place}: {what}");
            let at = lines.iter().position(|l| *l == head);
            let at = at.unwrap_or_else(|| panic!("`{head}` is not in\n{told}"));
            assert!(lines[at + 2].contains('^') && lines[at + 2].contains(remedy), "{told}");
        }
    }
}

#[test]
fn rules_and_matches_that_no_packet_meets_are_told_with_both_places_and_the_file_is_good() {
    let file = "tests/data/shadowed.yaml";
    let expected = [
        ("7:9", "this rule is shadowed: no packet meets it", "the one in {}:6:9"),
        ("8:9", "this rule is redundant: no packet meets it", "the one in {}:6:9"),
        ("11:9", "this rule is shadowed: no packet meets it", "those in {}:9:9, {}:10:9 together"),
        ("12:9", "this rule is redundant: a later one says the same", "the one in {}:13:9"),
        ("15:9", "this rule is shadowed: no packet meets it", "the one in {}:14:9"),
        ("18:28", "this match is shadowed: no packet meets it", "the one in {}:17:26"),
    ];
    let output = nfv(&["check", file]);
    assert_eq!(output.status.code(), Some(0), "a warning is no mistake");
    let told = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = told.lines().collect();
    let heads = lines.iter().filter(|l| l.starts_with(file));
    assert_eq!(heads.count(), expected.len(), "{told}");
    for (place, what, hint) in expected {
        let head = format!("{file}:{place}: warning: {what}");
        let at = lines.iter().position(|l| l.starts_with(&head));
        let at = at.unwrap_or_else(|| panic!("`{head}` is not in\n{told}"));
        let hint = hint.replace("{}", file);
        assert!(lines[at + 2].contains('^') && lines[at + 2].contains(&hint), "{told}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("port lan: 3 matches pick the chain; 8 classes, 3 of them dropped"),
        "{said}"
    );
}

#[test]
fn a_chain_file_that_cannot_be_read_is_named_with_the_reason() {
    for (path, why) in
        [("nowhere.yaml", "No such file"), ("chains", "directory"), ("/dev/zero", "")]
    {
        let output = nfv(&["check", path]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{path}: {told}");
        assert!(told.contains(path) && told.contains(why), "{told}");
    }
}

#[test]
fn an_option_that_eal_does_not_take_is_named_and_its_usage_is_not_printed() {
    let (code, out, err) = run(&["-l", "0,1", "--filee-prefix=x"], "net_null0");
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(
        err.contains("`--filee-prefix` is no option of EAL; did you mean `--file-prefix`?"),
        "{err}"
    );
    let (code, out, err) = run(&["-l", "0,1", "-n", "none"], "net_null0");
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("invalid channel number"), "{err}");
}

#[test]
fn lcores_that_are_not_there_are_the_users_mistake() {
    for lcores in ["0,999", "0"] {
        let (code, _, err) = run(&["-l", lcores], "net_null0");
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("fix nfv run -l 0-"), "{err}");
    }
}

#[test]
fn a_port_whose_device_is_not_there_is_named_with_those_that_are() {
    let cases = [
        ("net_af_packet0,iface=nowhere9", "problem  port lan  there is no interface nowhere9"),
        ("0000:99:00.0", "problem  port lan  there is no PCI device 0000:99:00.0"),
        ("net_pcap0,rx_pcap=/nowhere", "problem  port lan  there is no capture /nowhere"),
        ("lan", "nfv: port lan (lan): no such device"),
        ("net_null0,speed=9", "nfv: port lan (net_null0,speed=9): no such device"),
    ];
    for (device, told) in cases {
        let (code, _, err) = run(&["-l", "0,1"], device);
        assert_eq!(code, Some(2), "{device}: {err}");
        assert!(err.contains(told), "{device}: {err}");
    }
}

#[test]
fn a_control_socket_that_cannot_be_made_where_it_was_asked_for_ends_the_run() {
    let (code, _, err) = run(&["-l", "0,1"], "net_null0");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("/nonexistent/nfv.sock"), "{err}");
}

#[test]
fn eal_options_without_the_dashes_behind_them_are_put_right() {
    let output = nfv(&["run", "-l", "0,1", "chains/forward.yaml", "--live"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("nfv run -l 0,1 -- chains/forward.yaml --live"), "{told}");
    let output = nfv(&["run", "--no-pci", "--", "chains/forward.yaml", "--durations", "1"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--duration"), "an option of ours that is written wrongly: {told}");
}
