use core::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::format::*;
use super::*;
use crate::ids::{Endpoint, NodeKey};

fn full() -> Provisioning {
    let manager = |key, at: &str| ManagerRecord {
        key: NodeKey([key; 32]),
        endpoint: Endpoint::from(at.parse::<SocketAddr>().unwrap()),
    };
    Provisioning {
        key: SecretKey::from([1; 32]),
        name: "greenhouse-7".try_into().unwrap(),
        underlay: Underlay::Static {
            address: Ipv4Addr::new(192, 168, 1, 20),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 168, 1, 1)),
        },
        managers: [manager(2, "192.0.2.1:50103"), manager(3, "[2001:db8::1]:50104")].into_iter().collect(),
        join: Some(Join { secret: SecretKey::from([4; 32]), expires: 1_900_000_000 }),
        port: DEFAULT_PORT,
        serve: Some(ServiceName::new("farm.prod.telemetry.prod").unwrap()),
        call: Some(Call { address: Ipv4Addr::new(10, 30, 0, 1), port: 80, period_s: 30 }),
    }
}

fn encoded(provisioning: &Provisioning) -> std::vec::Vec<u8> {
    provisioning.encode(&mut [0; PROVISIONING_MAX]).unwrap().to_vec()
}

/// A blob around any content, with a checksum that fits.
fn sealed(content: &[u8]) -> std::vec::Vec<u8> {
    let mut blob = b"ACNP\x01".to_vec();
    blob.extend((content.len() as u16).to_be_bytes());
    blob.extend(content);
    blob.extend(crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&blob).to_be_bytes());
    blob
}

/// The content of a blob.
fn content(blob: &[u8]) -> &[u8] {
    blob.get(7..).and_then(|rest| rest.split_last_chunk::<4>()).unwrap().0
}

fn host_addresses() -> impl Strategy<Value = Underlay> {
    (any::<u32>(), any::<u32>(), 1_u8..=32, any::<bool>())
        .prop_map(|(address, gateway, prefix, routed)| {
            let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let gateway = routed.then(|| Ipv4Addr::from_bits((address & !host) | (gateway & host)));
            Underlay::Static { address: Ipv4Addr::from_bits(address), prefix, gateway }
        })
        .prop_filter("addresses of hosts", |underlay| underlay.check().is_ok())
}

fn keys() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>().prop_filter("not all zero", |key| *key != [0; 32])
}

fn managers() -> impl Strategy<Value = Vec<ManagerRecord, MANAGERS_MAX>> {
    let endpoint =
        (any::<std::net::IpAddr>(), 1_u16..).prop_map(|(ip, port)| Endpoint::from(SocketAddr::new(ip, port)));
    let manager = (keys(), endpoint).prop_map(|(key, endpoint)| ManagerRecord { key: NodeKey(key), endpoint });
    proptest::collection::vec(manager, 1..=MANAGERS_MAX).prop_map(|managers| managers.into_iter().collect())
}

prop_compose! {
    fn any_provisioning()(
        key in keys(),
        name in "[a-z0-9-]{1,63}",
        underlay in prop_oneof![Just(Underlay::Dhcp), host_addresses()],
        managers in managers(),
        join in proptest::option::of((keys(), any::<u64>())),
        port in 1_u16..,
        serve in proptest::option::of("[a-z0-9]{1,30}(\\.[a-z0-9]{1,30}){3}"),
        call in proptest::option::of((any::<u32>(), 1_u16.., 1_u16..)),
    ) -> Provisioning {
        Provisioning {
            key: SecretKey::from(key),
            name: name.as_str().try_into().unwrap(),
            underlay,
            managers,
            join: join.map(|(secret, expires)| Join { secret: SecretKey::from(secret), expires }),
            port,
            serve: serve.map(|name| ServiceName::new(&name).unwrap()),
            call: call.map(|(address, port, period_s)| Call { address: Ipv4Addr::from_bits(address), port, period_s }),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_whatever_is_behind_it(
        provisioning in any_provisioning().prop_filter("usable", |p| p.check().is_ok()),
        behind in prop_oneof![Just(std::vec![0xff; 4096]), Just(std::vec![0; 4096]), proptest::collection::vec(any::<u8>(), 0..99)],
    ) {
        let mut blob = encoded(&provisioning);
        prop_assert_eq!(decode(&blob), Ok(provisioning.clone()));
        blob.extend(behind);
        prop_assert_eq!(decode(&blob), Ok(provisioning));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_no_provisioning(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_content_never_panics_and_is_refused_by_name(content in proptest::collection::vec(any::<u8>(), 0..1013)) {
        match decode(&sealed(&content)) {
            Ok(provisioning) => prop_assert_eq!(provisioning.check(), Ok(())),
            Err(error) => prop_assert!(matches!(error, ProvisioningError::Damaged | ProvisioningError::Unusable(_))),
        }
    }

    #[test]
    fn changed_content_under_a_right_checksum_is_whole_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut content = content(&encoded(&full())).to_vec();
        let at = at.index(content.len());
        content[at] = byte;
        if let Ok(provisioning) = decode(&sealed(&content)) {
            prop_assert_eq!(provisioning.check(), Ok(()));
            prop_assert_eq!(decode(&encoded(&provisioning)), Ok(provisioning));
        }
    }
}

#[test]
fn the_format_is_pinned() {
    let mut expected = b"ACNP\x01\x00\xe9".to_vec();
    expected.extend([1; 32]);
    expected.extend(b"\x0cgreenhouse-7");
    expected.extend([1, 192, 168, 1, 20, 24, 1, 192, 168, 1, 1]);
    expected.push(2);
    expected.extend([2; 32]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    expected.extend([0xb7, 0x87, 0x03]);
    expected.extend([3; 32]);
    expected.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([0xb8, 0x87, 0x03]);
    expected.push(1);
    expected.extend([4; 32]);
    expected.extend([0x80, 0xe6, 0xfe, 0x89, 0x07]);
    expected.extend([0xb7, 0x87, 0x03]);
    expected.extend(b"\x01\x18farm.prod.telemetry.prod");
    expected.extend([1, 10, 30, 0, 1, 80, 30]);
    // python3 -c "import sys, zlib; print(hex(zlib.crc32(sys.stdin.buffer.read())))" of the bytes above.
    expected.extend(0x8040_8131_u32.to_be_bytes());
    assert_eq!(encoded(&full()), expected);
}

#[test]
fn no_changed_byte_is_forgiven() {
    let blob = encoded(&full());
    for at in 0..blob.len() {
        for difference in 1..=255 {
            let mut changed = blob.clone();
            changed[at] ^= difference;
            assert!(decode(&changed).is_err(), "byte {at} ^ {difference:#04x}");
            changed.extend([0xff; 1024]);
            assert!(decode(&changed).is_err(), "byte {at} ^ {difference:#04x} in a region");
        }
    }
}

#[test]
fn nothing_shorter_is_a_provisioning() {
    let blob = encoded(&full());
    for length in 0..blob.len() {
        assert!(decode(&blob[..length]).is_err(), "{length} bytes");
        for erased in [0x00, 0xff] {
            let mut region = blob[..length].to_vec();
            region.resize(4096, erased);
            assert!(decode(&region).is_err(), "{length} bytes, then {erased:#04x}");
        }
    }
}

#[test]
fn errors_tell_what_is_there() {
    for erased in [&[][..], &[0xff], &[0; 4], &[0xff; 4096], &[0; 4096]] {
        assert_eq!(decode(erased), Err(ProvisioningError::Missing), "{} bytes", erased.len());
    }
    for other in [&b"\x7fELF\x01\x01"[..], b"acnp", b"ACN", b"\xff\xff\xff\x00", b"\x00\xff\xff\xff"] {
        assert_eq!(decode(other), Err(ProvisioningError::NotProvisioning), "{other:?}");
    }
    let mut later = encoded(&full());
    later[4] = 2;
    assert_eq!(decode(&later), Err(ProvisioningError::Version { found: 2 }));
    assert_eq!(decode(b"ACNP"), Err(ProvisioningError::Damaged));

    let whole = encoded(&full());
    let content = content(&whole);
    assert_eq!(sealed(content), whole);
    assert_eq!(decode(&sealed(&[content, b"\0"].concat())), Err(ProvisioningError::Damaged), "leftovers");
    assert_eq!(decode(&sealed(&content[1..])), Err(ProvisioningError::Damaged), "not a content");
    let mut padded = content.to_vec();
    padded.resize(PROVISIONING_MAX, 0);
    assert_eq!(decode(&sealed(&padded)), Err(ProvisioningError::Damaged), "leftovers to the longest length");
}

#[test]
fn the_longest_content_fits() {
    let mut longest = full();
    longest.name = core::iter::repeat_n('n', 63).collect();
    longest.serve = Some(ServiceName::new(&[std::string::String::from_iter(["s"; 30]).as_str(); 4].join(".")).unwrap());
    longest.managers = (1..=4)
        .map(|key| ManagerRecord {
            key: NodeKey([key; 32]),
            endpoint: SocketAddr::from(([255, 0, 0, 1], 65535)).into(),
        })
        .collect();
    longest.port = u16::MAX;
    longest.join = Some(Join { secret: SecretKey::from([4; 32]), expires: u64::MAX });
    longest.call = Some(Call { address: Ipv4Addr::new(10, 30, 0, 1), port: u16::MAX, period_s: u16::MAX });
    let blob = encoded(&longest);
    assert!(blob.len() < PROVISIONING_MAX / 2 + 64, "{} bytes", blob.len());
    assert_eq!(decode(&blob), Ok(longest));
}

/// With `change`, the content is refused both ways: it is not written, and not read when something else wrote it.
#[track_caller]
fn assert_flaw(flaw: Flaw, change: impl FnOnce(&mut Provisioning)) {
    let mut provisioning = full();
    change(&mut provisioning);
    assert_eq!(provisioning.encode(&mut [0; PROVISIONING_MAX]), Err(flaw));
    let mut buffer = [0; PROVISIONING_MAX];
    let blob = provisioning.write(&mut buffer).unwrap();
    assert_eq!(decode(blob), Err(ProvisioningError::Unusable(flaw)));
}

#[test]
fn what_no_board_can_work_with_is_neither_written_nor_read() {
    let at = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
    assert_flaw(Flaw::Key, |p| p.key = SecretKey::from([0; 32]));
    assert_flaw(Flaw::Key, |p| p.join = Some(Join { secret: SecretKey::from([0; 32]), expires: 1 }));
    assert_flaw(Flaw::NoManager, |p| p.managers.clear());
    assert_flaw(Flaw::Manager, |p| p.managers[0].key = NodeKey::default());
    for bad in ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "192.0.2.1:0", "[::]:1", "[ff02::1]:1"] {
        assert_flaw(Flaw::Manager, |p| p.managers[1].endpoint = at(bad));
    }
    assert_flaw(Flaw::ManagerTwice, |p| p.managers[1].key = p.managers[0].key);
    assert_flaw(Flaw::Port, |p| p.port = 0);
    assert_flaw(Flaw::Serve, |p| p.serve = Some(ServiceName::EMPTY));
    for (address, port, period_s) in
        [("0.0.0.0", 80, 30), ("239.0.0.1", 80, 30), ("10.30.0.1", 0, 30), ("10.30.0.1", 80, 0)]
    {
        assert_flaw(Flaw::Call, |p| p.call = Some(Call { address: address.parse().unwrap(), port, period_s }));
    }
}

#[test]
fn an_underlay_address_is_one_that_a_host_can_have() {
    let check = |address: &str, prefix, gateway: &str| {
        let gateway = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
        Underlay::Static { address: address.parse().unwrap(), prefix, gateway }.check()
    };
    for (address, prefix, gateway) in [
        ("192.168.1.20", 24, "192.168.1.1"),
        ("192.168.1.20", 24, ""),
        ("10.0.0.0", 31, "10.0.0.1"),
        ("10.0.0.1", 32, ""),
        ("10.0.0.255", 23, "10.0.1.0"),
        ("1.0.0.1", 1, "126.0.0.1"),
    ] {
        assert_eq!(check(address, prefix, gateway), Ok(()), "{address}/{prefix} {gateway}");
    }
    for (flaw, address, prefix, gateway) in [
        (Flaw::Prefix, "192.168.1.20", 0, ""),
        (Flaw::Prefix, "192.168.1.20", 33, ""),
        (Flaw::Prefix, "192.168.1.20", 255, ""),
        (Flaw::Address, "192.168.1.0", 24, ""),
        (Flaw::Address, "192.168.1.255", 24, ""),
        (Flaw::Address, "0.0.0.0", 32, ""),
        (Flaw::Address, "127.0.0.2", 8, ""),
        (Flaw::Address, "224.0.0.1", 24, ""),
        (Flaw::Gateway, "192.168.1.20", 24, "192.168.2.1"),
        (Flaw::Gateway, "192.168.1.20", 24, "192.168.1.20"),
        (Flaw::Gateway, "192.168.1.20", 24, "192.168.1.255"),
        (Flaw::Gateway, "10.0.0.1", 32, "10.0.0.2"),
    ] {
        assert_eq!(check(address, prefix, gateway), Err(flaw), "{address}/{prefix} {gateway}");
        assert_flaw(flaw, |p| {
            let gateway = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
            p.underlay = Underlay::Static { address: address.parse().unwrap(), prefix, gateway };
        });
    }
}

#[test]
fn no_text_shows_a_secret() {
    let mut secret = full();
    secret.key = SecretKey::from([0xa5; 32]);
    secret.join = Some(Join { secret: SecretKey::from([0x5a; 32]), expires: 7 });
    let shown = std::format!("{secret:?} {secret:#?}");
    for bytes in ["165", "90, ", "a5", "5a", "A5", "pa"] {
        assert!(!shown.contains(bytes), "{bytes} in {shown}");
    }
    assert!(shown.contains("greenhouse-7") && shown.contains("SecretKey(..)"));
    assert!(serde_json::to_string(&secret).is_err(), "JSON would show the keys");
    assert!(serde_json::from_str::<SecretKey>(&std::format!("{:?}", [1; 32])).is_err());
}
