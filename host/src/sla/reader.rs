//! Reads an SLA, collecting requests and mistakes on its way.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use acorn_core::addr::Family;
use serde_json::{Map, Value};

use super::policy::AUTO;
use super::{Choice, InstanceAddress, Mistake, OfferedPolicy, ServiceName, ServiceRequest, WantedAddress};

/// The field of `addresses` for those of instances.
const INSTANCES: &str = "instances";

pub(super) struct Reader<'o> {
    offered: &'o [OfferedPolicy],
    requests: Vec<ServiceRequest>,
    /// The certain addresses of the requests so far, as addresses: one has many spellings.
    taken: HashMap<IpAddr, ServiceName>,
    mistakes: Vec<Mistake>,
}

impl<'o> Reader<'o> {
    pub(super) fn new(offered: &'o [OfferedPolicy]) -> Self {
        Self { offered, requests: Vec::new(), taken: HashMap::new(), mistakes: Vec::new() }
    }

    pub(super) fn read(&mut self, sla: &Value) {
        let Some(sla) = self.object(sla, "") else { return };
        for (application, path) in self.list(sla, "", "applications") {
            let Some(application) = self.object(application, &path) else { continue };
            let name = self.name_part(application, &path, "application_name");
            let namespace = self.name_part(application, &path, "application_namespace");
            for (microservice, path) in self.list(application, &path, "microservices") {
                self.microservice([name, namespace], microservice, &path);
            }
        }
    }

    /// The requests, or what is wrong.
    pub(super) fn finish(self) -> Result<Vec<ServiceRequest>, Vec<Mistake>> {
        if self.mistakes.is_empty() { Ok(self.requests) } else { Err(self.mistakes) }
    }

    fn microservice(&mut self, [app, app_ns]: [Option<&str>; 2], value: &Value, path: &str) {
        let Some(microservice) = self.object(value, path) else { return };
        let service = self.name_part(microservice, path, "microservice_name");
        let service_ns = self.name_part(microservice, path, "microservice_namespace");
        let (mut addresses, instances) = self.addresses(microservice, path);
        if addresses.is_empty() {
            addresses.push(WantedAddress::any(OfferedPolicy::round_robin()));
        }
        let (Some(app), Some(app_ns), Some(service), Some(service_ns)) = (app, app_ns, service, service_ns) else {
            return;
        };
        match ServiceName::new(&[app, app_ns, service, service_ns].join(".")) {
            Ok(name) if self.requests.iter().any(|other| other.name == name) => {
                self.mistake(path, format!("the service {name} is already in this SLA; give one of them another name"));
            }
            Ok(name) => {
                let fixed = addresses.iter().flat_map(WantedAddress::fixed);
                let fixed = fixed.chain(instances.iter().map(|instance| instance.address));
                self.taken.extend(fixed.map(|address| (address, name.clone())));
                self.requests.push(ServiceRequest { name, addresses, instances });
            }
            Err(error) => self.mistake(path, error.to_string()),
        }
    }

    /// The addresses that a service asks for, in the order of the policies, and those of its instances.
    fn addresses(
        &mut self,
        microservice: &Map<String, Value>,
        path: &str,
    ) -> (Vec<WantedAddress>, Vec<InstanceAddress>) {
        let none = (Vec::new(), Vec::new());
        let fields = self.fields();
        for field in fields.iter().filter(|field| microservice.contains_key(*field)) {
            self.mistake(&format!("{path}.{field}"), "belongs into the object `addresses`".to_owned());
        }
        let path = format!("{path}.addresses");
        let addresses = match microservice.get("addresses") {
            None | Some(Value::Null) => return none,
            Some(value) => value,
        };
        let Some(addresses) = self.object(addresses, &path) else { return none };
        let mut wanted = BTreeMap::new();
        for (field, value) in addresses.iter().filter(|(_, value)| !value.is_null()) {
            let path = format!("{path}.{field}");
            if let Some((place, family)) = self.policy_of(field) {
                self.address(&mut wanted, place, family, value, &path);
            } else if field != INSTANCES {
                let fields: Vec<_> = fields.iter().cloned().chain([INSTANCES.to_owned()]).collect();
                self.mistake(&path, format!("unknown field; `addresses` takes {}", listed(&fields)));
            }
        }
        let wanted: Vec<_> = wanted.into_values().collect();
        let instances = match addresses.get(INSTANCES) {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => self.instances(value, &format!("{path}.{INSTANCES}"), &wanted),
        };
        (wanted, instances)
    }

    /// The service before in this SLA that wants an address.
    pub(super) fn taken_by(&self, address: IpAddr) -> Option<&ServiceName> {
        self.taken.get(&address)
    }

    /// The policy, by its place, and the family that a field is for.
    fn policy_of(&self, field: &str) -> Option<(usize, Family)> {
        self.offered.iter().enumerate().find_map(|(place, policy)| Some((place, policy.family_of(field)?)))
    }

    /// The fields of all policies.
    fn fields(&self) -> Vec<String> {
        self.offered.iter().flat_map(|policy| [policy.field.to_owned(), policy.field_v6()]).collect()
    }

    /// Reads one field of `addresses` into what the service wants so far, by the places of the policies.
    fn address(
        &mut self,
        wanted: &mut BTreeMap<usize, WantedAddress>,
        place: usize,
        family: Family,
        value: &Value,
        path: &str,
    ) {
        let policy = &self.offered[place];
        let (mut v4, mut v6) = (None, None);
        match family {
            Family::V4 => {
                let what = "an IPv4 address, like \"10.30.0.1\"";
                v4 = self.choice::<Ipv4Addr>(wanted, value, path, what);
            }
            Family::V6 => {
                let what = format!("an IPv6 address, like \"{}\"", policy.example_v6());
                v6 = self.choice::<Ipv6Addr>(wanted, value, path, &what);
            }
        }
        let address = wanted.entry(place).or_insert_with(|| WantedAddress::any(policy.clone()));
        address.v4 = address.v4.or(v4);
        address.v6 = address.v6.or(v6);
    }

    /// A certain address that nothing before it in this SLA asks for, or none.
    fn choice<A: FromStr + Copy + fmt::Display + Into<IpAddr>>(
        &mut self,
        wanted: &BTreeMap<usize, WantedAddress>,
        value: &Value,
        path: &str,
        what: &str,
    ) -> Option<A> {
        let Some(choice) = value.as_str().and_then(|text| text.parse::<Choice<A>>().ok()) else {
            self.mistake(path, format!("{value} is not {what}; write \"{AUTO}\" to get one from the pool"));
            return None;
        };
        let address = choice.fixed()?;
        if let Some(other) = self.taken.get(&address.into()) {
            let rule = format!("{address} is also wanted by {other} in this SLA; an address belongs to one service");
            self.mistake(path, rule);
            return None;
        }
        if let Some(other) = wanted.values().find(|other| other.fixed().any(|taken| taken == address.into())) {
            let other = &other.policy.ip_type;
            let rule = format!("{address} is also wanted under {other}; each policy needs an address of its own");
            self.mistake(path, rule);
            return None;
        }
        Some(address)
    }

    /// One part of a service name.
    fn name_part<'v>(&mut self, object: &'v Map<String, Value>, path: &str, field: &str) -> Option<&'v str> {
        let path = join(path, field);
        let Some(value) = object.get(field) else {
            self.mistake(&path, "is missing; give a name of 1 to 30 ASCII letters and digits".to_owned());
            return None;
        };
        let part = value.as_str().filter(|text| is_name_part(text));
        if part.is_none() {
            self.mistake(&path, format!("{value} is not a name of 1 to 30 ASCII letters and digits"));
        }
        part
    }

    fn list<'v>(&mut self, object: &'v Map<String, Value>, path: &str, field: &str) -> Vec<(&'v Value, String)> {
        let path = join(path, field);
        match object.get(field) {
            Some(Value::Array(items)) if !items.is_empty() => {
                items.iter().enumerate().map(|(at, item)| (item, format!("{path}[{at}]"))).collect()
            }
            other => {
                let found = other.map_or("is missing".to_owned(), |value| format!("is {}", kind(value)));
                self.mistake(&path, format!("{found}; it has to be a list with at least one entry"));
                Vec::new()
            }
        }
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        if !value.is_object() {
            let what = if path.is_empty() { "the SLA " } else { "" };
            self.mistake(path, format!("{what}is {}; it has to be an object", kind(value)));
        }
        value.as_object()
    }

    pub(super) fn mistake(&mut self, path: &str, rule: String) {
        self.mistakes.push(Mistake { path: path.to_owned(), rule });
    }
}

/// The rule of [`ServiceName`] for one part, so that a mistake is reported at its own field.
fn is_name_part(text: &str) -> bool {
    !text.contains('.') && ServiceName::new(&format!("{text}.a.a.a")).is_ok()
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// Names as people list them: `a, b and c`.
fn listed(names: &[String]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        names => names.concat(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(items) if items.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
