//! A request that is repeated.

use super::super::{OnceError, RequestKey};
use super::*;

fn key(text: &str) -> RequestKey {
    RequestKey::new(text).unwrap()
}

/// Creates the service `name` under this key, in a transaction.
fn create(rig: &mut Rig, key: &str, name: &str) -> Result<String, OnceError<ServiceError>> {
    rig.root.begin(rig.now);
    let request = ServiceRequest { name: named(name), addresses: vec![round_robin(None, None)], fixed: Vec::new() };
    let (now, what) = (rig.now, format!("create {name}"));
    let answer = rig.root.once(now, &self::key(key), &what, |root| {
        root.create_service(now, request).map(|info| info.service_ips[0].1.to_string())
    });
    rig.root.finish().map_err(OnceError::Storage)?;
    answer
}

#[test]
fn a_repeat_gets_the_answer_of_the_first_also_after_a_restart() {
    let mut rig = Rig::new();
    let first = create(&mut rig, "k", "s").unwrap();
    assert_eq!(create(&mut rig, "k", "s").unwrap(), first);
    rig.restart();
    assert_eq!(create(&mut rig, "k", "s").unwrap(), first);
    // Even when what was made has gone since.
    rig.root.remove_service(rig.now, &named("s")).unwrap();
    assert_eq!(create(&mut rig, "k", "s").unwrap(), first);
    assert!(rig.root.services().is_empty());
    assert!(matches!(create(&mut rig, "k", "t"), Err(OnceError::Reused(_))));
    assert_ne!(create(&mut rig, "l", "s").unwrap(), first);
}

#[test]
fn a_refusal_is_not_kept() {
    let mut rig = Rig::new();
    rig.create("s").unwrap();
    assert!(matches!(create(&mut rig, "k", "s"), Err(OnceError::Refused(ServiceError::AlreadyExists(_)))));
    rig.root.remove_service(rig.now, &named("s")).unwrap();
    create(&mut rig, "k", "s").unwrap();
}

#[test]
fn answers_go_after_a_day() {
    let mut rig = Rig::new();
    create(&mut rig, "k", "s").unwrap();
    rig.pass(86_399);
    create(&mut rig, "k", "s").unwrap();
    rig.pass(1);
    assert!(matches!(create(&mut rig, "k", "s"), Err(OnceError::Refused(_))), "it is forgotten");
}

#[test]
fn the_oldest_answers_make_room() {
    let mut rig = Rig::new();
    let mebibyte = |rig: &mut Rig, key: &str| {
        rig.now = rig.now.saturating_add(Duration::from_millis(1));
        rig.root.begin(rig.now);
        let answer = rig.root.once(rig.now, &self::key(key), "", |_| Ok::<_, ()>(key.repeat(1 << 19)));
        rig.root.finish().unwrap();
        answer.unwrap().len()
    };
    for number in 10..26 {
        mebibyte(&mut rig, &number.to_string());
    }
    assert_eq!(rig.root.state.requests.in_the_way(0), []);
    mebibyte(&mut rig, "26");
    let count = rig.root.state.requests.in_the_way(1 << 24).len();
    assert_eq!(count, 16, "one made room");
}

#[test]
fn a_request_whose_transaction_fails_can_be_repeated() {
    let mut rig = Rig::new();
    rig.disk.die();
    assert!(matches!(create(&mut rig, "k", "s"), Err(OnceError::Storage(_))));
    rig.root.reload(rig.now).unwrap();
    assert!(matches!(create(&mut rig, "k", "s"), Err(OnceError::Storage(_))), "still broken");
    rig.disk.repair();
    create(&mut rig, "k", "s").unwrap();
    rig.restart();
    assert_eq!(rig.root.services().len(), 1);
}

#[test]
fn keys_are_short_and_printable() {
    for bad in ["", "a b", "\n", "\u{e9}", &"a".repeat(65)] {
        assert_eq!(RequestKey::new(bad), None, "{bad}");
    }
    assert!(RequestKey::new(&"a".repeat(64)).is_some());
}
