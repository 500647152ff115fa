//! What an SLA may say, what is made of it, and what each mistake is told.

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

/// Reads an SLA where round robin, `Nearest` and `Lucky` are offered.
fn read_offered(sla: &Value) -> Result<Vec<ServiceRequest>, SlaError> {
    parse_offered(sla.to_string().as_bytes(), &samples())
}

/// The SLA with these `addresses`.
fn with_addresses(addresses: Value) -> Value {
    with(&format!("{SERVICE}/addresses"), addresses)
}

/// An address under the policy of this `IpType`.
fn wanted(ip_type: &str, v4: Option<&str>, v6: Option<&str>) -> WantedAddress {
    let policy = samples().into_iter().find(|policy| policy.ip_type == ip_type).unwrap();
    WantedAddress { policy, v4: v4.map(|ip| ip.parse().unwrap()), v6: v6.map(|ip| ip.parse().unwrap()) }
}

/// Asserts that there is one mistake, at `path`, and that its rule says `says`.
#[track_caller]
fn assert_mistake(sla: &Value, path: &str, says: &str) {
    assert_one(read(sla), path, says);
}

#[track_caller]
fn assert_one(outcome: Result<Vec<ServiceRequest>, SlaError>, path: &str, says: &str) {
    let Err(SlaError::Mistakes(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.iter().map(|m| m.path.as_str()).collect::<Vec<_>>(), [path], "{found:?}");
    assert!(found[0].rule.contains(says), "{found:?}");
}

const SERVICE: &str = "/applications/0/microservices/0";
const PATH: &str = "applications[0].microservices[0]";

#[test]
fn an_oakestra_sla_is_read() {
    let name = ServiceName::new("app.ns.nginx.test").unwrap();
    let addresses = vec![wanted("RR", Some("10.30.30.30"), None)];
    assert_eq!(read(&sla()), Ok(vec![ServiceRequest { name, addresses, instances: vec![] }]));
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
    assert_eq!(services[1].addresses, [wanted("RR", None, Some("fdff:2000::7"))]);
    assert_eq!(services[2].addresses, [wanted("RR", None, None)]);
}

#[test]
fn flags_become_an_sla_that_asks_for_the_same() {
    let name = ServiceName::new("app.ns.svc.test").unwrap();
    let families =
        [(None, None), (Some("10.30.0.9"), None), (None, Some("fdff::9")), (Some("10.30.0.9"), Some("fdff::9"))];
    for (v4, v6) in families {
        for addresses in [
            vec![wanted("RR", v4, v6)],
            vec![wanted("Lucky", v4, v6)],
            vec![wanted("RR", None, None), wanted("Nearest", v4, v6), wanted("Lucky", None, Some("fdff:f000::9"))],
        ] {
            let sla = from_flags(&name, &addresses);
            assert_eq!(
                read_offered(&sla),
                Ok(vec![ServiceRequest { name: name.clone(), addresses, instances: vec![] }]),
                "{sla}"
            );
        }
    }
    let asked_nothing = read(&from_flags(&name, &[]));
    assert_eq!(
        asked_nothing,
        Ok(vec![ServiceRequest { name, addresses: vec![wanted("RR", None, None)], instances: vec![] }])
    );
}

#[test]
fn a_service_gets_an_address_under_each_policy_that_it_asks_for_in_the_order_of_the_registry() {
    for (addresses, expected) in [
        (json!({"nearest_ip": "auto"}), vec![wanted("Nearest", None, None)]),
        (json!({"nearest_ip_v6": "auto", "rr_ip": null}), vec![wanted("Nearest", None, None)]),
        (json!({"nearest_ip": "auto", "rr_ip": "auto"}), vec![wanted("RR", None, None), wanted("Nearest", None, None)]),
        (
            json!({"lucky_ip_v6": "FDFF:F000:0::1", "nearest_ip": "10.30.0.9", "lucky_ip": "auto"}),
            vec![wanted("Nearest", Some("10.30.0.9"), None), wanted("Lucky", None, Some("fdff:f000::1"))],
        ),
        (json!({"rr_ip": "auto", "nearest_ip": null}), vec![wanted("RR", None, None)]),
    ] {
        assert_eq!(read_offered(&with_addresses(addresses.clone())).unwrap()[0].addresses, expected, "{addresses}");
    }
}

#[test]
fn every_registered_policy_is_offered() {
    let offered = OfferedPolicy::built_in();
    let all: Map<_, _> = offered.iter().map(|policy| (policy.field.to_owned(), json!("auto"))).collect();
    let all_v6: Map<_, _> = offered.iter().map(|policy| (policy.field_v6(), json!(policy.example_v6()))).collect();
    let asked = |addresses| read(&with_addresses(Value::Object(addresses))).unwrap().remove(0).addresses;
    assert_eq!(asked(all), offered.iter().cloned().map(WantedAddress::any).collect::<Vec<_>>());
    let examples: Vec<_> = asked(all_v6).into_iter().map(|wanted| (wanted.policy, wanted.v6)).collect();
    assert_eq!(examples, offered.into_iter().map(|p| (p.clone(), Some(p.example_v6()))).collect::<Vec<_>>());
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
    assert_mistake(&with("/applications/0/microservices", json!([])), "applications[0].microservices", "an empty list");
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
    for bad in ["10.30.999.1", "10.30.x.y", "10.30.0", "10.30.0.1/32", "10.30.0.01", " 10.30.0.1", "fdff:2000::1", ""] {
        assert_mistake(
            &with(&format!("{SERVICE}/addresses"), json!({"rr_ip": bad})),
            &format!("{PATH}.addresses.rr_ip"),
            "not an IPv4 address",
        );
    }
    for bad in ["Auto", "any", "auto "] {
        let sla = with_addresses(json!({"nearest_ip": bad, "lucky_ip": "auto"}));
        assert_one(read_offered(&sla), &format!("{PATH}.addresses.nearest_ip"), "write \"auto\"");
    }
    let sla = with_addresses(json!({"nearest_ip_v6": "10.30.0.1"}));
    assert_one(
        read_offered(&sla),
        &format!("{PATH}.addresses.nearest_ip_v6"),
        "an IPv6 address, like \"fdff:9000::1\"",
    );
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
    assert_eq!(read(&spelled).unwrap()[0].addresses, [wanted("RR", None, Some("fdff:2000::7"))]);

    let mut twice = spelled.clone();
    let mut other = twice["applications"][0]["microservices"][0].clone();
    other["microservice_name"] = json!("other");
    other["addresses"]["rr_ip_v6"] = json!("fdff:2000::7");
    twice["applications"][0]["microservices"].as_array_mut().unwrap().push(other);
    assert_mistake(&twice, "applications[0].microservices[1].addresses.rr_ip_v6", "also wanted by app.ns.nginx.test");
}

#[test]
fn an_address_has_one_service_and_one_policy() {
    let path = format!("{PATH}.addresses");
    let both = json!({"nearest_ip": "10.30.0.9", "lucky_ip": "10.30.0.9"});
    assert_one(read_offered(&with_addresses(both)), &format!("{path}.lucky_ip"), "also wanted under Nearest");
    let both = json!({"lucky_ip_v6": "fdff:9000::1", "nearest_ip_v6": "FDFF:9000:0::1"});
    assert_one(read_offered(&with_addresses(both)), &format!("{path}.nearest_ip_v6"), "also wanted under Lucky");

    let other = json!({
        "microservice_name": "other", "microservice_namespace": "test", "addresses": {"lucky_ip": "10.30.30.30"},
    });
    let path = "applications[0].microservices[1].addresses.lucky_ip";
    let twice = with("/applications/0/microservices/1", other);
    assert_one(read_offered(&twice), path, "10.30.30.30 is also wanted by app.ns.nginx.test");
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
    for field in ["cheapest_ip", "cheapest_ip_v6", "rr_ip_v4", "RR_ip", "auto"] {
        let sla = with(&addresses, json!({field: "10.30.0.7"}));
        let says = "unknown field; `addresses` takes rr_ip, rr_ip_v6, nearest_ip, nearest_ip_v6, lucky_ip, lucky_ip_v6 and instances";
        assert_one(read_offered(&sla), &format!("{path}.{field}"), says);
    }
    for field in ["rr_ip", "rr_ip_v6", "nearest_ip", "lucky_ip_v6"] {
        let misplaced = with(&format!("{SERVICE}/{field}"), json!("10.30.0.7"));
        assert_one(read_offered(&misplaced), &format!("{PATH}.{field}"), "`addresses`");
    }
}

#[test]
fn null_is_the_same_as_leaving_a_field_out() {
    let nulls = json!({"rr_ip": null, "rr_ip_v6": null, "nearest_ip": null, "lucky_ip_v6": null, "instances": null});
    for addresses in [nulls, json!(null), json!({})] {
        let services = read_offered(&with_addresses(addresses)).unwrap();
        assert_eq!(services[0].addresses, [wanted("RR", None, None)]);
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

#[test]
fn instances_get_the_addresses_that_are_written_for_them() {
    let read = |instances| {
        let services = read(&with_addresses(json!({"rr_ip": "auto", "instances": instances}))).unwrap();
        services[0].instances.iter().map(|i| format!("{} {}", i.number, i.address)).collect::<Vec<_>>()
    };
    assert!(read(json!([])).is_empty());
    let listed = read(json!(["10.30.0.9", "FDFF:0::9", "10.30.0.7"]));
    assert_eq!(listed, ["0 10.30.0.9", "0 fdff::9", "1 10.30.0.7"], "each family counts by itself");
    let oakestra =
        read(json!([{"from": "10.30.0.254", "to": "10.30.1.1", "start": "4"}, {"from": "fdff::1", "start": 5}]));
    assert_eq!(oakestra, ["4 10.30.0.254", "5 10.30.0.255", "6 10.30.1.0", "7 10.30.1.1", "5 fdff::1"]);
    assert_eq!(read(json!([{"from": "10.30.0.9", "start": 1}, "10.30.0.7"])), ["1 10.30.0.9", "0 10.30.0.7"]);
}

#[test]
fn every_mistake_in_the_addresses_of_instances_has_its_place() {
    let path = format!("{PATH}.addresses.instances");
    let range = |from: &str, to: &str| json!({"from": from, "to": to});
    for (instances, at, says) in [
        (json!("10.30.0.9"), "", "is not a list"),
        (json!([7]), "[0]", "7 is not an address"),
        (json!(["10.30.0.9", "auto"]), "[1]", "\"auto\" is not an address"),
        (json!([{"from": "10.30.0.9", "until": "10.30.0.10"}]), "[0].until", "unknown field"),
        (json!([{"to": "10.30.0.9"}]), "[0].from", "null is not an address"),
        (json!([range("10.30.0.9", "x")]), "[0].to", "\"x\" is not an address"),
        (json!([range("10.30.0.9", "10.30.0.8")]), "[0].to", "does not come after"),
        (json!([range("10.30.0.9", "fdff::9")]), "[0].to", "does not come after"),
        (json!([{"from": "10.30.0.9", "start": "first"}]), "[0].start", "not the number of an instance"),
        (json!([{"from": "10.30.0.9", "start": 65_536}]), "[0].start", "0 to 65535"),
        (json!([{"from": "10.30.0.9", "to": "10.30.0.10", "start": 65_535}]), "[0]", "numbers go up to 65535"),
        (json!(["10.30.0.9", range("10.30.0.8", "10.30.0.9")]), "[1]", "also wanted for instance 0"),
        (json!(["10.30.0.9", {"from": "10.30.0.8", "start": 0}]), "[1]", "instance 0 has 10.30.0.9 already"),
        (json!(["10.30.0.5"]), "[0]", "also wanted under RR"),
        (json!([range("10.30.8.0", "10.30.255.0")]), "[0]", "at most 1024"),
        (json!([range("::", "ffff::")]), "[0]", "at most 1024"),
    ] {
        let sla = with_addresses(json!({"instances": instances, "rr_ip": "10.30.0.5"}));
        assert_mistake(&sla, &format!("{path}{at}"), says);
    }
    let mut twice = with_addresses(json!({"instances": ["10.30.0.9"]}));
    let mut other = twice["applications"][0]["microservices"][0].clone();
    other["microservice_name"] = json!("other");
    twice["applications"][0]["microservices"].as_array_mut().unwrap().push(other);
    let path = "applications[0].microservices[1].addresses.instances[0]";
    assert_mistake(&twice, path, "also wanted by app.ns.nginx.test");
}
