use embassy_time::Duration;

use super::*;

const START: Instant = Instant::from_secs(100);
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A claim to [`ADDRESS`] on a link that is up.
fn claim() -> Claim {
    let mut claim = Claim::new();
    claim.set_link(true);
    claim.set_address(Some(ADDRESS));
    claim
}

/// A claim to which nobody has objected, and the moment from which it holds.
fn held() -> (Claim, Instant) {
    let mut claim = claim();
    say_all(&mut claim, START);
    let at = START + ANNOUNCE_INTERVAL;
    say_all(&mut claim, at);
    (claim, at)
}

/// All that is due at a moment.
fn say_all(claim: &mut Claim, now: Instant) -> Vec<Message> {
    let mut said = Vec::new();
    while let Some((message, _)) = claim.due(now) {
        claim.sent(now, message);
        said.push(message);
        assert!(said.len() <= 2, "more than two messages at once");
    }
    said
}

fn uses(sender: [u8; 6], sender_ip: Ipv4Addr) -> Heard {
    Heard { sender, sender_ip, target_ip: Ipv4Addr::new(192, 0, 2, 99) }
}

fn asks(sender: [u8; 6], target_ip: Ipv4Addr) -> Heard {
    Heard { sender, sender_ip: Ipv4Addr::UNSPECIFIED, target_ip }
}

#[test]
fn an_address_is_probed_for_and_announced_at_once_and_announced_again_after_two_seconds() {
    let mut claim = claim();
    assert_eq!(claim.due(START), Some((Message::Probe, ADDRESS)));
    assert_eq!(say_all(&mut claim, START), [Message::Probe, Message::Announcement]);
    let again = START + Duration::from_secs(2);
    assert_eq!(claim.next(START), Some(again));
    assert_eq!(claim.due(again - Duration::from_ticks(1)), None);
    assert_eq!(
        claim.next(again + Duration::from_secs(1)),
        None,
        "what is overdue waits for the driver, not for the clock"
    );
    assert_eq!(say_all(&mut claim, again), [Message::Announcement]);
    assert_eq!(claim.next(again), None);
    assert_eq!(claim.due(again + Duration::from_secs(3600)), None);
}

#[test]
fn nothing_is_said_while_the_link_is_down_and_all_of_it_anew_when_it_comes_up() {
    let mut claim = Claim::new();
    claim.set_address(Some(ADDRESS));
    assert_eq!((claim.due(START), claim.next(START)), (None, None));
    claim.set_link(true);
    assert_eq!(say_all(&mut claim, START), [Message::Probe, Message::Announcement]);
    claim.set_link(false);
    let later = START + Duration::from_secs(60);
    assert_eq!((claim.due(later), claim.next(START)), (None, None));
    claim.set_link(true);
    assert_eq!(say_all(&mut claim, later), [Message::Probe, Message::Announcement]);
    claim.set_link(true);
    assert_eq!(claim.due(later), None, "a link that stays up is no news");
}

#[test]
fn the_same_address_is_no_news_and_another_one_is() {
    let (mut claim, now) = held();
    assert!(!claim.set_address(Some(ADDRESS)));
    assert_eq!(claim.due(now), None);
    let other = Ipv4Addr::new(192, 0, 2, 7);
    assert!(claim.set_address(Some(other)));
    assert_eq!(claim.due(now), Some((Message::Probe, other)));
    assert!(claim.hear(now, OWN, &uses(OTHER, ADDRESS)).is_none(), "the old address is no longer this node's");
    assert!(claim.set_address(None));
    assert_eq!(claim.due(now), None);
    assert!(claim.hear(now, OWN, &uses(OTHER, other)).is_none());
}

#[test]
fn an_address_that_no_node_can_have_is_none() {
    for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        let mut claim = claim();
        claim.set_address(Some(address));
        assert_eq!(claim.due(START), None, "{address}");
        assert!(claim.hear(START, OWN, &uses(OTHER, address)).is_none(), "{address}");
    }
}

#[test]
fn only_this_address_from_another_node_is_a_clash() {
    let (mut claim, now) = held();
    let clash = Clash { address: ADDRESS, other: OTHER, at: now };
    assert_eq!(claim.hear(now, OWN, &uses(OTHER, ADDRESS)), Some(clash));
    assert_eq!(claim.hear(now, OWN, &uses(OWN, ADDRESS)), None);
    assert_eq!(claim.hear(now, OWN, &uses(OTHER, Ipv4Addr::new(192, 0, 2, 2))), None);
    assert_eq!(claim.hear(now, OWN, &asks(OTHER, ADDRESS)), None);
}

#[test]
fn a_held_address_is_defended_once_in_ten_seconds_however_often_it_clashes() {
    let (mut claim, start) = held();
    let mut defences = Vec::new();
    for tenth in 0..350 {
        let now = start + Duration::from_millis(tenth * 100);
        assert!(claim.hear(now, OWN, &uses(OTHER, ADDRESS)).is_some());
        for message in say_all(&mut claim, now) {
            assert_eq!(message, Message::Announcement);
            defences.push((now - start).as_secs());
        }
    }
    assert_eq!(defences, [0, 10, 20, 30]);
}

#[test]
fn a_defence_that_could_not_be_sent_ends_with_the_address() {
    let (mut claim, now) = held();
    claim.hear(now, OWN, &uses(OTHER, ADDRESS));
    claim.set_address(Some(Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(say_all(&mut claim, now), [Message::Probe, Message::Announcement]);
}

#[test]
fn taking_an_address_anew_does_not_earn_a_defence() {
    let (mut claim, now) = held();
    claim.hear(now, OWN, &uses(OTHER, ADDRESS));
    assert_eq!(say_all(&mut claim, now), [Message::Announcement]);
    claim.set_address(None);
    claim.set_address(Some(ADDRESS));
    say_all(&mut claim, now);
    let soon = now + ANNOUNCE_INTERVAL;
    say_all(&mut claim, soon);
    assert!(claim.hear(soon, OWN, &uses(OTHER, ADDRESS)).is_some());
    assert_eq!(claim.due(soon), None);
}

#[test]
fn who_was_here_before_is_reported_and_nothing_more_is_said_about_the_address() {
    for said_before in 0..=2 {
        let mut claim = claim();
        for _ in 0..said_before {
            let (message, _) = claim.due(START).unwrap();
            claim.sent(START, message);
        }
        assert!(claim.hear(START, OWN, &uses(OTHER, ADDRESS)).is_some());
        let later = START + Duration::from_secs(60);
        assert_eq!((claim.due(later), claim.next(START)), (None, None), "after {said_before} messages");
        assert!(claim.hear(later, OWN, &uses(OTHER, ADDRESS)).is_some());
        claim.hear(later, OWN, &asks(OTHER, ADDRESS));
        assert_eq!(claim.due(later), None, "after {said_before} messages");
        claim.set_address(None);
        claim.set_address(Some(ADDRESS));
        assert_eq!(claim.due(later), Some((Message::Probe, ADDRESS)));
    }
}

#[test]
fn a_node_that_asks_for_the_address_is_answered() {
    let (mut claim, now) = held();
    claim.hear(now, OWN, &asks(OTHER, ADDRESS));
    assert_eq!(say_all(&mut claim, now), [Message::Answer { to: OTHER }]);
    claim.hear(now, OWN, &asks(OTHER, Ipv4Addr::new(192, 0, 2, 2)));
    claim.hear(now, OWN, &asks(OWN, ADDRESS));
    claim.hear(now, OWN, &asks([0xff; 6], ADDRESS));
    claim.hear(now, OWN, &asks([1, 0, 0x5e, 0, 0, 1], ADDRESS));
    assert_eq!(claim.due(now), None);
}

#[test]
fn what_could_not_be_sent_stays_due() {
    let mut claim = claim();
    assert_eq!(claim.due(START), claim.due(START + Duration::from_secs(5)));
    claim.sent(START + Duration::from_secs(5), Message::Probe);
    assert_eq!(claim.due(START + Duration::from_secs(9)), Some((Message::Announcement, ADDRESS)));
}
