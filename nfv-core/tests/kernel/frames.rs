//! The few frames that a neighbour on the wire would send, built and recognised by hand.

/// An ARP request over Ethernet for IPv4.
pub fn is_arp_request(frame: &[u8]) -> bool {
    frame.get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1])
}

/// The answer to an ARP `request`, from `mac`.
pub fn arp_reply(request: &[u8], mac: [u8; 6]) -> Vec<u8> {
    let (asker, target) = (&request[22..32], &request[38..42]);
    let asker_mac = &asker[..6];
    let head = [asker_mac, &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    [&head, mac.as_slice(), target, asker].concat()
}

/// An ICMPv6 neighbour solicitation whose target is `target`.
pub fn is_solicitation_for(frame: &[u8], target: &str) -> bool {
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(20) == Some(&58)
        && frame.get(54) == Some(&135)
        && frame.get(62..78) == Some(&target.octets())
}

/// An ICMP echo request without payload.
pub fn echo_request(from: [u8; 6], to: [u8; 6], src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let mut icmp = [8, 0, 0, 0, 0, 1, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [to.as_slice(), &from, &[8, 0], &header, &icmp].concat()
}

/// An ICMP echo reply over IPv4 without options.
pub fn is_echo_reply(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1) && frame.get(34) == Some(&0)
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}
