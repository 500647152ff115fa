//! The service-level agreement: what an operator asks for, in Oakestra's JSON (SLA v2), and the service requests in it.
//!
//! Acorn reads the names and `addresses` of each microservice and lets every other field pass, because an SLA also
//! speaks to schedulers and runtimes. In `addresses` nothing passes unread: what Acorn doesn't offer is an error.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use acorn_core::ids::ServiceName;
use serde_json::{Map, Value, json};

/// The fields of `addresses` that name an address under a policy that does not exist here.
const NOT_OFFERED: [&str; 2] = ["closest_ip", "closest_ip_v6"];

/// One service that an SLA asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRequest {
    /// The service's name.
    pub name: ServiceName,
    /// The wanted round-robin address; otherwise the pool gives one.
    pub rr_ip: Option<Ipv4Addr>,
    /// The wanted round-robin address in IPv6; otherwise the pool gives one.
    pub rr_ip_v6: Option<Ipv6Addr>,
}

/// Why an SLA is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlaError {
    /// The text is not JSON. Line and column count from 1.
    #[error("the SLA is not JSON: {0}")]
    Json(String),
    /// The JSON breaks rules: all of them, in the order of the text.
    #[error("the SLA has {}:{}", count(.0.len()), .0.iter().map(|m| format!("\n  {m}")).collect::<String>())]
    Mistakes(Vec<Mistake>),
}

/// A rule that an SLA breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, like `applications[0].microservices[1].addresses.rr_ip`. Empty for the SLA as a whole.
    pub path: String,
    /// What is wrong there and what to write.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.rule),
            path => write!(f, "{path}: {}", self.rule),
        }
    }
}

/// The services that an SLA asks for: at least one, no name and no address twice.
///
/// # Errors
/// [`SlaError`] with every mistake. Whether an address is in the plan and free, the root decides.
pub fn parse(text: &[u8]) -> Result<Vec<ServiceRequest>, SlaError> {
    let sla: Value = serde_json::from_slice(text).map_err(|error| SlaError::Json(error.to_string()))?;
    let mut reader = Reader::default();
    reader.read(&sla);
    if reader.mistakes.is_empty() { Ok(reader.requests) } else { Err(SlaError::Mistakes(reader.mistakes)) }
}

/// The SLA that asks for one service.
pub fn from_flags(name: &ServiceName, rr_ip: Option<Ipv4Addr>, rr_ip_v6: Option<Ipv6Addr>) -> Value {
    let mut parts = name.as_str().split('.');
    let mut part = || parts.next().unwrap_or_default();
    let (application, application_namespace) = (part(), part());
    let (microservice, microservice_namespace) = (part(), part());
    let mut addresses = Map::new();
    addresses.extend(rr_ip.map(|ip| ("rr_ip".to_owned(), json!(ip))));
    addresses.extend(rr_ip_v6.map(|ip| ("rr_ip_v6".to_owned(), json!(ip))));
    json!({
        "sla_version": "v2.0",
        "applications": [{
            "application_name": application,
            "application_namespace": application_namespace,
            "microservices": [{
                "microservice_name": microservice,
                "microservice_namespace": microservice_namespace,
                "addresses": addresses,
            }],
        }],
    })
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "a mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

/// Collects requests and mistakes on its way through an SLA.
#[derive(Default)]
struct Reader {
    requests: Vec<ServiceRequest>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn read(&mut self, sla: &Value) {
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

    fn microservice(&mut self, [app, app_ns]: [Option<&str>; 2], value: &Value, path: &str) {
        let Some(microservice) = self.object(value, path) else { return };
        let service = self.name_part(microservice, path, "microservice_name");
        let service_ns = self.name_part(microservice, path, "microservice_namespace");
        let (rr_ip, rr_ip_v6) = self.addresses(microservice, path);
        let (Some(app), Some(app_ns), Some(service), Some(service_ns)) = (app, app_ns, service, service_ns) else {
            return;
        };
        match ServiceName::new(&[app, app_ns, service, service_ns].join(".")) {
            Ok(name) if self.requests.iter().any(|other| other.name == name) => {
                self.mistake(path, format!("the service {name} is already in this SLA; give one of them another name"));
            }
            Ok(name) => self.requests.push(ServiceRequest { name, rr_ip, rr_ip_v6 }),
            Err(error) => self.mistake(path, error.to_string()),
        }
    }

    fn addresses(&mut self, microservice: &Map<String, Value>, path: &str) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        for field in ["rr_ip", "rr_ip_v6"].iter().chain(&NOT_OFFERED).filter(|field| microservice.contains_key(**field))
        {
            self.mistake(&format!("{path}.{field}"), "belongs into the object `addresses`".to_owned());
        }
        let path = format!("{path}.addresses");
        let addresses = match microservice.get("addresses") {
            None | Some(Value::Null) => return (None, None),
            Some(value) => value,
        };
        let Some(addresses) = self.object(addresses, &path) else { return (None, None) };
        let (mut rr_ip, mut rr_ip_v6) = (None, None);
        for (field, value) in addresses {
            let path = format!("{path}.{field}");
            match field.as_str() {
                _ if value.is_null() => {}
                "rr_ip" => {
                    rr_ip = self.address(value, &path, "an IPv4 address, like \"10.30.0.1\"", |request| request.rr_ip)
                }
                "rr_ip_v6" => {
                    rr_ip_v6 = self
                        .address(value, &path, "an IPv6 address, like \"fdff:2000::1\"", |request| request.rr_ip_v6);
                }
                "instances" if value.as_array().is_some_and(Vec::is_empty) => {}
                "instances" => {
                    self.mistake(&path, "fixed instance addresses are not offered; leave the field out".to_owned())
                }
                field if NOT_OFFERED.contains(&field) => {
                    self.mistake(
                        &path,
                        "this balancing policy is not offered; leave the field out or use rr_ip and rr_ip_v6"
                            .to_owned(),
                    );
                }
                _ => self.mistake(&path, "unknown field; `addresses` takes rr_ip and rr_ip_v6".to_owned()),
            }
        }
        (rr_ip, rr_ip_v6)
    }

    /// An address that no earlier service of this SLA asks for. Compared as an address: one has many spellings.
    fn address<A: FromStr + PartialEq + fmt::Display>(
        &mut self,
        value: &Value,
        path: &str,
        wanted: &str,
        earlier: impl Fn(&ServiceRequest) -> Option<A>,
    ) -> Option<A> {
        let Some(address) = value.as_str().and_then(|text| text.parse::<A>().ok()) else {
            self.mistake(path, format!("{value} is not {wanted}; leave the field out to get one from the pool"));
            return None;
        };
        if let Some(other) = self.requests.iter().find(|request| earlier(request).as_ref() == Some(&address)) {
            let rule =
                format!("{address} is also wanted by {} in this SLA; an address belongs to one service", other.name);
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

    fn mistake(&mut self, path: &str, rule: String) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An SLA as Oakestra's users write it, with one service.
    fn sla() -> Value {
        json!({
            "sla_version": "v2.0",
            "customerID": "Admin",
            "applications": [{
                "applicationID": "",
                "application_name": "app",
                "application_namespace": "ns",
                "application_desc": "Nginx behind a load-balanced address",
                "microservices": [{
                    "microserviceID": "",
                    "microservice_name": "nginx",
                    "microservice_namespace": "test",
                    "virtualization": "container",
                    "cmd": [],
                    "memory": 100,
                    "vcpus": 1,
                    "code": "docker.io/library/nginx:latest",
                    "port": "6080:80",
                    "addresses": {"rr_ip": "10.30.30.30"},
                    "constraints": [],
                    "connectivity": [],
                }],
            }],
        })
    }

    /// The SLA with the value at a JSON pointer replaced or added.
    fn with(pointer: &str, value: Value) -> Value {
        let mut sla = sla();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match sla.pointer_mut(parent).unwrap() {
            Value::Object(object) => drop(object.insert(field.to_owned(), value)),
            Value::Array(items) => items.push(value),
            _ => panic!("{pointer}"),
        }
        sla
    }

    fn read(sla: &Value) -> Result<Vec<ServiceRequest>, SlaError> {
        parse(sla.to_string().as_bytes())
    }

    #[track_caller]
    fn mistakes(sla: &Value) -> Vec<Mistake> {
        match read(sla) {
            Err(SlaError::Mistakes(mistakes)) => mistakes,
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that there is one mistake, at `path`, and that its rule says `says`.
    #[track_caller]
    fn assert_mistake(sla: &Value, path: &str, says: &str) {
        let found = mistakes(sla);
        assert_eq!(found.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), [path], "{found:?}");
        assert!(found[0].rule.contains(says), "{found:?}");
    }

    const SERVICE: &str = "/applications/0/microservices/0";
    const PATH: &str = "applications[0].microservices[0]";

    #[test]
    fn an_oakestra_sla_is_read() {
        let name = ServiceName::new("app.ns.nginx.test").unwrap();
        let rr_ip = Some(Ipv4Addr::new(10, 30, 30, 30));
        assert_eq!(read(&sla()), Ok(vec![ServiceRequest { name, rr_ip, rr_ip_v6: None }]));
    }

    #[test]
    fn every_service_of_every_application_is_read() {
        let mut two = sla();
        let mut other = two["applications"][0].clone();
        other["application_name"] = json!("other");
        other["microservices"][0]["addresses"] = json!({"rr_ip_v6": "fdff:2000::7", "instances": []});
        let mut third = other["microservices"][0].clone();
        third["microservice_name"] = json!("db");
        third.as_object_mut().unwrap().remove("addresses");
        other["microservices"].as_array_mut().unwrap().push(third);
        two["applications"].as_array_mut().unwrap().push(other);
        let services = read(&two).unwrap();
        let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["app.ns.nginx.test", "other.ns.nginx.test", "other.ns.db.test"]);
        assert_eq!(services[1].rr_ip_v6, Some("fdff:2000::7".parse().unwrap()));
        assert_eq!((services[2].rr_ip, services[2].rr_ip_v6), (None, None));
    }

    #[test]
    fn flags_become_an_sla_that_asks_for_the_same() {
        let name = ServiceName::new("app.ns.svc.test").unwrap();
        let (v4, v6) = (Ipv4Addr::new(10, 30, 0, 9), "fdff:2000::9".parse().unwrap());
        for (rr_ip, rr_ip_v6) in [(None, None), (Some(v4), None), (None, Some(v6)), (Some(v4), Some(v6))] {
            let request = ServiceRequest { name: name.clone(), rr_ip, rr_ip_v6 };
            assert_eq!(read(&from_flags(&name, rr_ip, rr_ip_v6)), Ok(vec![request]));
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused_with_its_place() {
        let error = parse(b"{\n  \"applications\": [,]\n}").unwrap_err().to_string();
        assert!(error.contains("not JSON") && error.contains("line 2 column 20"), "{error}");
        assert!(matches!(parse(b""), Err(SlaError::Json(_))));
        assert!(matches!(parse(&[0xff, 0xfe]), Err(SlaError::Json(_))));
    }

    #[test]
    fn an_sla_without_services_is_refused() {
        assert_mistake(&json!([]), "", "the SLA is an empty list");
        assert_mistake(&json!({}), "applications", "is missing");
        assert_mistake(&json!({"applications": []}), "applications", "an empty list");
        assert_mistake(&json!({"applications": {}}), "applications", "an object");
        assert_mistake(
            &with("/applications/0/microservices", json!([])),
            "applications[0].microservices",
            "an empty list",
        );
        assert_mistake(&with("/applications/1", json!(7)), "applications[1]", "a number");
        assert_mistake(
            &with("/applications/0/microservices/1", json!("x")),
            "applications[0].microservices[1]",
            "a string",
        );
    }

    #[test]
    fn every_name_is_checked_at_its_own_field() {
        let application = "/applications/0/application_name";
        let namespace = "/applications/0/application_namespace";
        for (pointer, path) in [
            (application.to_owned(), "applications[0].application_name".to_owned()),
            (namespace.to_owned(), "applications[0].application_namespace".to_owned()),
            (format!("{SERVICE}/microservice_name"), format!("{PATH}.microservice_name")),
            (format!("{SERVICE}/microservice_namespace"), format!("{PATH}.microservice_namespace")),
        ] {
            for bad in [
                json!(""),
                json!("a_b"),
                json!("a.b"),
                json!("service!"),
                json!("\u{e9}"),
                json!("a".repeat(31)),
                json!(5),
                json!(null),
            ] {
                assert_mistake(&with(&pointer, bad), &path, "1 to 30 ASCII letters and digits");
            }
            assert!(read(&with(&pointer, json!("a".repeat(30)))).is_ok());
            let mut missing = sla();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            missing.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
            assert_mistake(&missing, &path, "is missing");
        }
    }

    #[test]
    fn text_that_is_not_an_address_is_refused() {
        for bad in
            ["10.30.999.1", "10.30.x.y", "10.30.0", "10.30.0.1/32", "10.30.0.01", " 10.30.0.1", "fdff:2000::1", ""]
        {
            assert_mistake(
                &with(&format!("{SERVICE}/addresses"), json!({"rr_ip": bad})),
                &format!("{PATH}.addresses.rr_ip"),
                "not an IPv4 address",
            );
        }
        for bad in ["10.30.0.1", "fdff:2000::g", "fdff:2000::/21", "fe80::1%eth0"] {
            let sla = with(&format!("{SERVICE}/addresses"), json!({"rr_ip_v6": bad}));
            assert_mistake(&sla, &format!("{PATH}.addresses.rr_ip_v6"), "not an IPv6 address");
        }
        assert_mistake(
            &with(&format!("{SERVICE}/addresses/rr_ip"), json!(10)),
            &format!("{PATH}.addresses.rr_ip"),
            "10 is not",
        );
        assert_mistake(
            &with(&format!("{SERVICE}/addresses"), json!("10.30.0.1")),
            &format!("{PATH}.addresses"),
            "a string",
        );
    }

    #[test]
    fn an_address_is_the_same_however_it_is_spelled() {
        let spelled = with(&format!("{SERVICE}/addresses"), json!({"rr_ip_v6": "FDFF:2000:0::0007"}));
        assert_eq!(read(&spelled).unwrap()[0].rr_ip_v6, Some("fdff:2000::7".parse().unwrap()));

        let mut twice = spelled.clone();
        let mut other = twice["applications"][0]["microservices"][0].clone();
        other["microservice_name"] = json!("other");
        other["addresses"]["rr_ip_v6"] = json!("fdff:2000::7");
        twice["applications"][0]["microservices"].as_array_mut().unwrap().push(other);
        assert_mistake(
            &twice,
            "applications[0].microservices[1].addresses.rr_ip_v6",
            "also wanted by app.ns.nginx.test",
        );
    }

    #[test]
    fn a_service_twice_is_refused() {
        let twice = with(
            "/applications/0/microservices/1",
            json!({"microservice_name": "nginx", "microservice_namespace": "test"}),
        );
        assert_mistake(&twice, "applications[0].microservices[1]", "already in this SLA");
    }

    #[test]
    fn what_is_not_offered_is_never_ignored() {
        let addresses = format!("{SERVICE}/addresses");
        let path = format!("{PATH}.addresses");
        for field in ["closest_ip", "closest_ip_v6"] {
            let sla = with(&addresses, json!({field: "10.30.0.7"}));
            assert_mistake(&sla, &format!("{path}.{field}"), "not offered");
        }
        let fixed = json!({"instances": [{"from": "10.30.0.1", "to": "10.30.0.2", "start": "0"}]});
        assert_mistake(&with(&addresses, fixed), &format!("{path}.instances"), "not offered");
        assert_mistake(&with(&addresses, json!({"RR_ip": "10.30.0.7"})), &format!("{path}.RR_ip"), "unknown field");
        assert_mistake(&with(&format!("{SERVICE}/rr_ip"), json!("10.30.0.7")), &format!("{PATH}.rr_ip"), "`addresses`");
    }

    #[test]
    fn null_is_the_same_as_leaving_a_field_out() {
        let nulls = json!({"rr_ip": null, "rr_ip_v6": null, "closest_ip": null, "instances": null});
        for addresses in [nulls, json!(null), json!({})] {
            let services = read(&with(&format!("{SERVICE}/addresses"), addresses)).unwrap();
            assert_eq!((services[0].rr_ip, services[0].rr_ip_v6), (None, None));
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let broken =
            json!({"applications": [{"application_name": "a-b", "microservices": [{"addresses": {"rr_ip": "x"}}]}]});
        let message = read(&broken).unwrap_err().to_string();
        let lines: Vec<_> = message.lines().map(str::trim).collect();
        assert_eq!(lines[0], "the SLA has 5 mistakes:");
        for (line, path) in lines[1..].iter().zip([
            "applications[0].application_name: \"a-b\" is not",
            "applications[0].application_namespace: is missing",
            "applications[0].microservices[0].microservice_name: is missing",
            "applications[0].microservices[0].microservice_namespace: is missing",
            "applications[0].microservices[0].addresses.rr_ip: \"x\" is not",
        ]) {
            assert!(line.starts_with(path), "{line}");
        }
    }
}
