//! Reads `addresses.instances`: the instance IPs that certain instances of a service are to have.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::reader::Reader;
use super::{InstanceAddress, WantedAddress};
use crate::root::{FIXED_MAX, INSTANCE_NUMBER_MAX};

const WHAT: &str = "an address, like \"10.30.0.9\", or a range, like {\"from\": \"10.30.0.9\", \"to\": \"10.30.0.12\", \"start\": \"0\"}";

/// A range as it is written. A single address is one, too.
struct Range {
    from: IpAddr,
    to: IpAddr,
    /// The number of the instance that gets the first address; otherwise the one after the last of the family.
    start: Option<u32>,
}

impl Reader<'_> {
    /// The addresses of a service's instances, in the order of the text. `others` are those of the service itself.
    pub(super) fn instances(&mut self, value: &Value, path: &str, others: &[WantedAddress]) -> Vec<InstanceAddress> {
        let Some(entries) = value.as_array() else {
            self.mistake(path, format!("{value} is not a list; each entry is {WHAT}"));
            return Vec::new();
        };
        let mut wanted = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let Some(range) = self.range(entry, &path) else { continue };
            let start = range.start.unwrap_or_else(|| next_number(&wanted, range.from));
            for (number, address) in (start..).zip(addresses(&range)) {
                if wanted.len() >= FIXED_MAX {
                    self.mistake(&path, format!("a service can have at most {FIXED_MAX} fixed instance addresses"));
                    return wanted;
                }
                if let Some(rule) = self.broken_rule(number, address, &wanted, others) {
                    self.mistake(&path, rule);
                    break;
                }
                wanted.push(InstanceAddress { number, address });
            }
        }
        wanted
    }

    fn broken_rule(
        &self,
        number: u32,
        address: IpAddr,
        wanted: &[InstanceAddress],
        others: &[WantedAddress],
    ) -> Option<String> {
        if number > INSTANCE_NUMBER_MAX {
            return Some(format!(
                "{address} would be that of instance {number}; numbers go up to {INSTANCE_NUMBER_MAX}"
            ));
        }
        if let Some(other) = self.taken_by(address) {
            return Some(format!("{address} is also wanted by {other} in this SLA; an address belongs to one service"));
        }
        if let Some(other) = others.iter().find(|other| other.fixed().any(|taken| taken == address)) {
            let other = &other.policy.ip_type;
            return Some(format!("{address} is also wanted under {other}; an instance needs an address of its own"));
        }
        if let Some(other) = wanted.iter().find(|other| other.address == address) {
            return Some(format!(
                "{address} is also wanted for instance {}; give each an address of its own",
                other.number
            ));
        }
        let same = |other: &&InstanceAddress| other.number == number && other.address.is_ipv4() == address.is_ipv4();
        let other = wanted.iter().find(same)?;
        Some(format!("instance {number} has {} already; it has one address of each family", other.address))
    }

    fn range(&mut self, entry: &Value, path: &str) -> Option<Range> {
        if let Some(address) = entry.as_str().and_then(|text| text.parse().ok()) {
            return Some(Range { from: address, to: address, start: None });
        }
        let Some(fields) = entry.as_object() else {
            self.mistake(path, format!("{entry} is not {WHAT}"));
            return None;
        };
        if let Some(unknown) = fields.keys().find(|field| !["from", "to", "start"].contains(&field.as_str())) {
            self.mistake(&format!("{path}.{unknown}"), "unknown field; a range takes from, to and start".to_owned());
            return None;
        }
        let from = self.end(fields, path, "from")?;
        let to = if is_given(fields, "to") { self.end(fields, path, "to")? } else { from };
        if from.is_ipv4() != to.is_ipv4() || from > to {
            let rule = format!("{to} does not come after {from}; a range goes from its lowest address to its highest");
            self.mistake(&format!("{path}.to"), rule);
            return None;
        }
        let start = if is_given(fields, "start") { Some(self.start(fields, path)?) } else { None };
        Some(Range { from, to, start })
    }

    fn end(&mut self, fields: &Map<String, Value>, path: &str, field: &str) -> Option<IpAddr> {
        let value = fields.get(field).unwrap_or(&Value::Null);
        let address = value.as_str().and_then(|text| text.parse().ok());
        if address.is_none() {
            self.mistake(&format!("{path}.{field}"), format!("{value} is not an address, like \"10.30.0.9\""));
        }
        address
    }

    /// A number, or text that is one, as Oakestra has it.
    fn start(&mut self, fields: &Map<String, Value>, path: &str) -> Option<u32> {
        let value = fields.get("start").unwrap_or(&Value::Null);
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|n| *n <= INSTANCE_NUMBER_MAX);
        if number.is_none() {
            let rule = format!("{value} is not the number of an instance; it is 0 to {INSTANCE_NUMBER_MAX}");
            self.mistake(&format!("{path}.start"), rule);
        }
        number
    }
}

fn is_given(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field).is_some_and(|value| !value.is_null())
}

/// The lowest number without an address of the family of `like`.
fn next_number(wanted: &[InstanceAddress], like: IpAddr) -> u32 {
    let same = wanted.iter().filter(|other| other.address.is_ipv4() == like.is_ipv4());
    let used: BTreeSet<u32> = same.map(|other| other.number).collect();
    (0..).find(|number| !used.contains(number)).unwrap_or(u32::MAX)
}

/// The addresses of a range, however many: the reader stops.
fn addresses(range: &Range) -> Box<dyn Iterator<Item = IpAddr>> {
    match (range.from, range.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Box::new((from.to_bits()..=to.to_bits()).map(|bits| IpAddr::V4(bits.into())))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Box::new((from.to_bits()..=to.to_bits()).map(|bits| IpAddr::V6(bits.into())))
        }
        // Refused before.
        _ => Box::new(std::iter::empty()),
    }
}
