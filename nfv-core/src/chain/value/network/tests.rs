use proptest::prelude::*;

use super::*;

fn hint<T: Scalar + fmt::Debug>(text: &str) -> String {
    T::parse(text).unwrap_err().hint
}

#[test]
fn a_prefix_with_host_bits_names_the_right_one() {
    let error = Prefix::parse("10.0.0.1/8").unwrap_err();
    assert_eq!(error.message, "`10.0.0.1/8` has bits set behind its prefix length");
    assert_eq!(error.hint, "the network is `10.0.0.0/8`; the address alone is `10.0.0.1`");
    assert_eq!(Prefix::parse("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
    assert_eq!(Prefix::parse("2001:db8::/32").unwrap().family(), IpFamily::V6);
    for text in ["", "10/8", "10.0.0.0/33", "::/129", "10.0.0.256", "lan"] {
        assert!(Prefix::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_address_of_a_port_needs_its_prefix_length() {
    assert_eq!(IpNet::parse("10.0.0.1/24").unwrap().to_string(), "10.0.0.1/24");
    assert_eq!(hint::<IpNet>("10.0.0.1"), "such as `10.0.0.1/24`");
    assert_eq!(hint::<IpNet>("2001:db8::1"), "such as `2001:db8::1/64`");
    assert_eq!(hint::<IpAddr>("10.0.0.1/24"), "without a prefix length: `10.0.0.1`");
}

#[test]
fn port_ranges_include_both_ends() {
    let range = PortRange::parse("1024-2047").unwrap();
    assert_eq!((range.first(), range.last()), (1024, 2047));
    assert_eq!(PortRange::parse("80"), Ok(PortRange { first: 80, last: 80 }));
    assert_eq!(hint::<PortRange>("90-80"), "the lower one first: `80-90`");
    assert_eq!(hint::<PortRange>("65536"), "ports go from 0 to 65535");
    for text in ["", "-", "80-", "-80", "+80", "http", "80,443", "1-2-3"] {
        assert!(PortRange::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_mac_address_is_of_one_station() {
    assert_eq!(MacAddress::parse("02:00:00:aB:00:01").unwrap().bytes(), [2, 0, 0, 0xab, 0, 1]);
    for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
        assert!(MacAddress::parse(text).unwrap_err().message.contains("one station"), "{text}");
    }
    for text in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "+2:00:00:00:00:01"] {
        assert!(MacAddress::parse(text).unwrap_err().message.ends_with("a MAC address"), "{text}");
    }
}

#[test]
fn vlans_go_from_1_to_4094() {
    assert_eq!(Vlan::parse("100").map(Vlan::id), Ok(100));
    for text in ["0", "4095", "65636", "", "0x10", "a"] {
        assert_eq!(hint::<Vlan>(text), "1 to 4094", "{text}");
    }
}

#[test]
fn protocols_have_names_and_numbers() {
    assert_eq!(ProtocolMatch::parse("tcp"), Ok(ProtocolMatch::One(Protocol::TCP)));
    assert_eq!(ProtocolMatch::parse("47"), Ok(ProtocolMatch::One(Protocol(47))));
    assert_eq!(ProtocolMatch::parse("any"), Ok(ProtocolMatch::Any));
    assert!(hint::<ProtocolMatch>("ucp").starts_with("did you mean `"));
    assert!(ProtocolMatch::parse("256").is_err());
}

#[test]
fn tcp_flags_can_be_asked_for_and_against() {
    let flags = TcpFlagsMatch::parse("syn,!ack").unwrap();
    assert_eq!((flags.set(), flags.clear()), (0x02, 0x10));
    for text in ["", "syn,", "syn,!syn", "syn|ack", "SYN"] {
        assert!(TcpFlagsMatch::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_icmp_name_knows_its_number_in_each_family() {
    let echo = IcmpType::Named { name: "echo-request", v4: Some(8), v6: Some(128) };
    assert_eq!(IcmpType::parse("echo-request"), Ok(echo));
    assert_eq!(IcmpType::parse("8"), Ok(IcmpType::Number(8)));
    assert_eq!(hint::<IcmpType>("echo-requst"), "did you mean `echo-request`?");
    assert!(IcmpType::parse("256").is_err());
}

fn survives<T: Scalar + fmt::Display + fmt::Debug + PartialEq>(value: T) -> bool {
    T::parse(&value.to_string()) == Ok(value)
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        bits: u128, length in 0..=128_u8, ports: (u16, u16), mac: [u8; 6], byte: u8, clear: u8,
        vlan in 1..=4094_u16,
    ) {
        let v6 = IpNet::new(IpAddr::V6(bits.into()), length).unwrap();
        let v4 = IpNet::new(IpAddr::V4((bits as u32).into()), length.min(32)).unwrap();
        for net in [v4, v6] {
            prop_assert!(survives(Prefix(net.trunc())) && survives(net) && survives(net.addr()));
        }
        let (first, last) = (ports.0.min(ports.1), ports.0.max(ports.1));
        let range = PortRange { first, last };
        prop_assert!(survives(range) && survives(Vlan(vlan)) && survives(ProtocolMatch::One(Protocol(byte))));
        let [first, rest @ ..] = mac;
        let [a, b, c, d, e] = rest;
        prop_assert!(survives(MacAddress([first & 0xfe | 2, a, b, c, d, e])));
        prop_assume!(byte | clear != 0);
        let flags = TcpFlagsMatch { set: byte & !clear, clear };
        prop_assert!(survives(flags));
    }

    #[test]
    fn no_text_makes_a_value_panic(text in "\\PC*|[0-9a-f:./,!-]{0,40}") {
        let _ = (Prefix::parse(&text), IpNet::parse(&text), PortRange::parse(&text));
        let _ = (MacAddress::parse(&text), Vlan::parse(&text), ProtocolMatch::parse(&text));
        let _ = (TcpFlagsMatch::parse(&text), IcmpType::parse(&text), bool::parse(&text));
    }
}
