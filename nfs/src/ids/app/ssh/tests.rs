//! Conversations of SSH, whole and cut anywhere.

use super::{KEX_INIT, NEW_KEYS};
use crate::ids::app::testkit::{DOWN, Talk, UP, same_however_cut};
use crate::ids::app::{Fields, Ports, Stage};

fn shell() -> Talk {
    Talk::tcp(Ports { client: 40000, server: 22 })
}

/// A packet with four bytes of padding.
fn packet(message: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 6).unwrap();
    [&len.to_be_bytes(), &[4, message][..], body, &[0; 4]].concat()
}

/// A key exchange that offers these lists, two of a kind for the two directions.
fn kex(lists: [&str; 8]) -> Vec<u8> {
    let mut body = vec![7; 16];
    for list in lists.into_iter().chain(["", ""]) {
        body.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
        body.extend_from_slice(list.as_bytes());
    }
    body.extend_from_slice(&[0; 5]);
    packet(KEX_INIT, &body)
}

/// The lists of libssh 0.7.2, whose fingerprint is published.
fn offer() -> Vec<u8> {
    let ciphers =
        "aes256-ctr,aes192-ctr,aes128-ctr,aes256-cbc,aes192-cbc,aes128-cbc,blowfish-cbc,3des-cbc";
    let macs = "hmac-sha2-256,hmac-sha2-512,hmac-sha1";
    let kinds = "curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha1,diffie-hellman-group1-sha1";
    kex([kinds, "ssh-ed25519", ciphers, "x", macs, "y", "none", "z"])
}

#[test]
fn both_ends_are_known_by_banner_and_key_exchange() {
    let mut talk = shell();
    talk.say(DOWN, b"SSH-2.0-OpenSSH_7.4\r\n");
    talk.say(UP, b"SSH-2.0-libssh-0.7.2 a comment\r\n");
    talk.say(UP, &offer());
    assert_eq!(talk.text(0, "ssh.proto", UP), "2.0");
    assert_eq!(talk.text(0, "ssh.software", UP), "libssh-0.7.2");
    assert_eq!(talk.text(0, "ssh.software", DOWN), "OpenSSH_7.4");
    assert_eq!(talk.text(0, "ssh.hassh", UP), "c8c5fbf80b7b0a1b0e4de5e683f3c5ad");
    assert_eq!(talk.tx(0).stage(UP), Stage::Headers);
    assert!(!talk.say(UP, &packet(NEW_KEYS, &[])).is_encrypted);
    talk.say(DOWN, &offer());
    assert!(talk.text(0, "ssh.hassh.server.string", DOWN).ends_with(";x;y;z"));
    assert!(talk.say(DOWN, &packet(NEW_KEYS, &[])).is_encrypted);
    assert_eq!(talk.remarks, "");
}

#[test]
fn conversations_are_the_same_however_they_are_cut() {
    let up = [b"SSH-2.0-x\r\n", offer().as_slice(), &packet(30, b"hello"), &packet(NEW_KEYS, b"")]
        .concat();
    let down = [b"SSH-1.99-y z\n", offer().as_slice()].concat();
    let picture = same_however_cut(shell, &[(UP, &up), (DOWN, &down)]);
    assert!(picture.contains("ssh.proto 1.99"), "{picture}");
}

#[test]
fn a_banner_too_long_is_cut_and_remarked() {
    let banner = [b"SSH-2.0-", [b'a'; 5000].as_slice(), b"\r\n", &offer()].concat();
    let picture = same_however_cut(shell, &[(UP, &banner[..400])]);
    assert!(picture.contains("long_banner"), "{picture}");
    let mut talk = shell();
    talk.say(UP, &banner);
    assert_eq!(talk.text(0, "ssh.hassh", UP), "c8c5fbf80b7b0a1b0e4de5e683f3c5ad");
    assert!(talk.app.bytes() < 4 << 10);
}

#[test]
fn what_is_no_banner_or_packet_ends_the_parser() {
    for (bytes, event) in [
        (&b"SSH-nothing\r\n"[..], "invalid_banner"),
        (b"SSH-2.0-x\r\n\0\0\0\x01\0\x14", "invalid_record"),
        (b"SSH-2.0-x\r\n\xff\0\0\x01\0\x14", "invalid_record"),
    ] {
        let mut talk = shell();
        talk.say(UP, bytes);
        assert_eq!(talk.events(0), event);
        assert!(talk.app.is_ignored());
    }
}

#[test]
fn a_key_exchange_too_long_is_not_gathered() {
    let mut talk = shell();
    talk.say(UP, b"SSH-2.0-x\r\n");
    talk.say(UP, &packet(KEX_INIT, &[0; 100_000]));
    talk.say(UP, &packet(NEW_KEYS, b""));
    assert_eq!(talk.events(0), "long_kex_record");
    assert_eq!(talk.tx(0).stage(UP), Stage::Complete);
    let Fields::Ssh(session) = talk.tx(0).fields() else { panic!() };
    assert_eq!(session.end(UP).hassh(), None);
}
