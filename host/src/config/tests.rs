//! What the configuration accepts, and what it says about each mistake.

use super::diagnosis::KEYS;
use super::*;

const EXAMPLE: &str = include_str!("../../acorn.example.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("acorn.toml"), text, &Overrides::default())
}

/// The message about a file with a mistake. Panics when the file is accepted.
fn mistake(text: &str) -> String {
    parse(text).expect_err("the file has a mistake").to_string()
}

/// Asserts that a mistake is reported at a line and column, and that the message says the rest too.
#[track_caller]
fn assert_mistake(text: &str, place: &str, says: &[&str]) {
    let message = mistake(text);
    assert!(message.starts_with(&format!("acorn.toml:{place}: ")), "not at {place}: {message}");
    for part in says {
        assert!(message.contains(part), "does not say {part:?}: {message}");
    }
}

/// `section.key` of every key in the example, commented out or not.
fn example_keys(text: &str) -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_example_is_the_defaults() {
    assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_example_has_every_key_and_every_key_has_a_help() {
    let mut shown = example_keys(EXAMPLE);
    let mut known: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
    shown.sort();
    known.sort();
    assert_eq!(shown, known);
}

#[test]
fn every_key_that_the_example_comments_out_is_valid() {
    let commented = |line: &&str| line.starts_with("# ") && line.contains(" = \"");
    let places: Vec<_> =
        EXAMPLE.lines().enumerate().filter(|(_, line)| commented(line)).map(|(place, _)| place).collect();
    assert_eq!(places.len(), 9, "{places:?}");
    for place in places {
        let lines = EXAMPLE.lines().enumerate();
        let lines = lines.map(|(at, line)| if at == place { line.trim_start_matches("# ") } else { line });
        let lines: Vec<_> = lines.collect();
        let line = lines[place];
        let config = parse(&lines.join("\n")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_ne!(config, Config::default(), "{line} has an effect");
    }
}

#[test]
fn the_effective_configuration_is_a_valid_file() {
    let mut config = Config::default();
    config.daemon.advertise = Some("198.51.100.7:50103".parse().unwrap());
    config.node.subnet = Some("10.18.30.64/26".parse().unwrap());
    let text = toml::to_string(&config).unwrap();
    assert_eq!(parse(&text).unwrap(), config);
}

#[test]
fn a_token_is_shown_nowhere() {
    let config = parse("[node]\ntoken = \"s3cr3t\"").unwrap();
    assert_eq!(config.node.read_token().unwrap().unwrap().reveal(), "s3cr3t");
    assert!(!format!("{config:?}").contains("s3cr3t"));
    assert!(!toml::to_string(&config).unwrap().contains("s3cr3t"));
    for broken in [
        "[node]\ntoken = s3cr3t",
        "[node]\ntoken = \"s3cr3t\"\ntoken_file = \"f\"",
        "[node]\ntoken=[\"s3cr3t\"]",
        "[node]\n'token' = [\"s3cr3t\"]",
        "node.token = [\"s3cr3t\"]",
        "node = { token = \"s3cr3t\", nam = 5 }",
    ] {
        assert!(!mistake(broken).contains("s3cr3t"), "{}", mistake(broken));
    }
}

#[test]
fn a_mistake_is_shown_with_its_line_and_what_to_write() {
    assert_eq!(
        mistake("[root]\n# comment\n  lease_s = \"ten\""),
        "acorn.toml:3:13: invalid type: string \"ten\", expected u32\n \
         3 |   lease_s = \"ten\"\n   |             ^^^^^\n  \
         help: root.lease_s is a whole number of seconds from 1 to 86400, like 10"
    );
}

#[test]
fn text_that_is_not_toml_is_refused() {
    assert_mistake("[daemon\nstate = \"x\"", "1:8", &["]"]);
    assert_mistake("[daemon]\nstate = /var", "2:9", &[]);
    assert_mistake("[root]\nlease_s = 1\nlease_s = 2", "3:1", &["duplicate key"]);
}

#[test]
fn unknown_keys_and_sections_are_refused() {
    assert_mistake("[daemon]\nlisten = \"0.0.0.0:1\"\nlisen = 1", "3:1", &["unknown field `lisen`", "`listen`"]);
    assert_mistake("[deamon]\n", "1:2", &["unknown field `deamon`", "`daemon`"]);
    assert_mistake("listen = \"0.0.0.0:1\"", "1:1", &["unknown field `listen`"]);
    assert_mistake("[plan]\nworker = []", "2:1", &["`workers`"]);
    assert_mistake("[node]\nmtu = 1500", "2:1", &["`underlay_mtu`"]);
}

#[test]
fn wrong_types_are_refused() {
    assert_mistake("daemon = 5", "1:10", &["invalid type"]);
    assert_mistake("[daemon]\nstate = 5", "2:9", &["daemon.state is a directory"]);
    assert_mistake("[daemon]\nlisten = 50103", "2:10", &["0.0.0.0:50103"]);
    assert_mistake("[root]\nlease_s = -1", "2:11", &["-1", "1 to 86400"]);
    assert_mistake("[root]\nlease_s = 1.5", "2:11", &["floating point"]);
    assert_mistake("[node]\nname = true", "2:8", &["node.name is"]);
    assert_mistake("[node]\ntoken = 5", "2:9", &["node.token is"]);
    assert_mistake("[plan]\nworkers = [\"10.18.0.0/16\"]", "2:11", &["invalid type: sequence", "an IPv4 pool"]);
}

#[test]
fn bad_values_of_the_daemon_are_refused() {
    assert_mistake("[daemon]\nstate = \"\"", "2:9", &["empty"]);
    assert_mistake("[daemon]\nsocket = \"\"", "2:10", &["empty"]);
    let long = format!("[daemon]\nsocket = \"/{}\"", "a".repeat(107));
    assert_mistake(&long, "2:10", &["107 bytes"]);
    assert!(parse(&long.replacen("/a", "/", 1)).is_ok());
    assert_mistake("[daemon]\nlisten = \"0.0.0.0\"", "2:10", &["an address with a port"]);
    assert_mistake("[daemon]\nlisten = \"localhost:50103\"", "2:10", &["an address with a port"]);
    assert_mistake("[daemon]\nlisten = \"0.0.0.0:0\"", "2:10", &["port 0"]);
    assert_mistake("[daemon]\nadvertise = \"192.0.2.1:0\"", "2:13", &["port 0"]);
    assert_mistake("[daemon]\nadvertise = \"[::]:50103\"", "2:13", &["unspecified"]);
    assert_mistake("[daemon]\nlog = \"info,acorn=loud\"", "2:7", &["daemon.log is a level"]);
}

#[test]
fn times_out_of_range_are_refused() {
    assert_mistake("[root]\nlease_s = 0", "2:11", &["0 s is not between 1 and 86400 s"]);
    assert_mistake("[root]\nquarantine_s = 86401", "2:16", &["86401 s"]);
    assert_mistake("[root]\nretention_s = 31536001", "2:15", &["31536001 s"]);
    assert_mistake("[root]\nretention_s = 5", "2:15", &["shorter than lease_s = 10"]);
    assert_mistake("[root]\nlease_s = 90\nretention_s = 80", "3:15", &["shorter than lease_s = 90"]);
}

#[test]
fn bad_values_of_a_node_are_refused() {
    assert_mistake("[node]\nname = \"my node\"", "2:8", &["not a node name", "like \"edge-1\""]);
    assert_mistake(
        "[node]\ntun = \"a-name-that-is-too-long\"",
        "2:7",
        &["not an interface name", "1 to 15 characters"],
    );
    assert_mistake("[node]\nsubnet = \"10.18.30.70/26\"", "2:10", &["write the base address", "10.18.30.64/26"]);
    assert_mistake("[node]\nsubnet = \"10.18.30.64\"", "2:10", &["ADDRESS/PREFIX"]);
    assert_mistake("[node]\nsubnet = \"10.18.30.0/24\"", "2:10", &["10.18.30.0/24", "/26"]);
    assert_mistake("[node]\nsubnet = \"10.40.0.0/26\"", "2:10", &["10.40.0.0/26", "pool"]);
    assert_mistake("[node]\ntoken = \"\"", "2:9", &["acorn token create"]);
    assert_mistake("[node]\ntoken = \"a\"\ntoken_file = \"f\"", "2:9", &["both token and token_file"]);
    assert_mistake("[node]\nunderlay_mtu = 500", "2:16", &["500 bytes"]);
    assert_mistake("[node]\nunderlay_mtu = 70000", "2:16", &["576 to 65535"]);
    assert_mistake("[node]\nveth_prefix = \"a-prefix-of-13\"", "2:15", &["1 to 12 characters"]);
    assert_mistake("[node]\nveth_prefix = \"acv1\"", "2:15", &["do not end in a digit"]);
    assert_mistake(
        "[node]\nveth_prefix = \"acorn\"",
        "2:15",
        &["the TUN `acorn0` has a name for an instance's interface"],
    );
    assert_mistake("[node]\ntun = \"acv7\"", "2:7", &["the TUN `acv7`"]);
}

#[test]
fn bad_pools_are_refused() {
    assert_mistake("[plan]\nworkers = \"\"", "2:11", &["ADDRESS/PREFIX", "10.18.0.0-10.29.255.255"]);
    assert_mistake("[plan]\nworkers = \"10.18.0.0/33\"", "2:11", &["prefix length"]);
    assert_mistake("[plan]\nworkers = \"10.18.0.5/16\"", "2:11", &["base address"]);
    assert_mistake("[plan]\nworkers = \"10.18.0.0/27\"", "2:11", &["whole /26"]);
    assert_mistake("[plan]\nworkers = \"10.29.255.255-10.18.0.0\"", "2:11", &["swap them"]);
    assert_mistake("[plan]\nworkers_v6 = \"fc00::/121\"", "2:14", &["whole /120"]);
    assert_mistake("[plan]\nworkers_v6 = \"fc00::/120\"", "2:14", &["make it larger"]);
    assert_mistake("[plan]\nworkers_v6 = \"fdfe::/16\"", "2:14", &["fdfe::/16 is reserved"]);
    assert_mistake("[plan]\nservices = \"10.30.0.1/16\"", "2:12", &["base address"]);
    assert_mistake("[plan]\nservices = \"10.30.0.0/31\"", "2:12", &["/8 to /30"]);
    assert_mistake("[plan]\nservices_v6 = \"fdff::/60\"", "2:15", &["at most a /59"]);
    assert_mistake("[plan]\nservices_v6 = \"10.30.0.0/16\"", "2:15", &["an IPv6 network"]);
}

#[test]
fn a_pool_may_be_wider_than_a_prefix_can_say() {
    let plan = parse("[plan]\nworkers = \"10.18.0.0-10.29.255.255\"").unwrap().plan.address_plan().unwrap();
    assert_eq!(plan.worker_count(), 12 * 1024);
}

#[test]
fn overlapping_pools_are_refused() {
    let overlap = ["the IPv4 worker pool and the IPv4 service net overlap"];
    assert_mistake("[plan]\nservices = \"10.18.128.0/17\"", "2:12", &overlap);
    assert_mistake("[plan]\nworkers = \"10.0.0.0/8\"", "2:11", &overlap);
    assert_mistake("[plan]\nservices = \"10.30.0.0/16\"\nworkers = \"10.0.0.0/8\"", "3:11", &overlap);
    let overlap = ["the IPv6 worker pool and the IPv6 service net overlap"];
    assert_mistake("[plan]\nworkers_v6 = \"fc00::/7\"", "2:14", &overlap);
    assert_mistake("[plan]\nservices_v6 = \"fdfc::/16\"", "2:15", &overlap);
}

#[test]
fn a_mistake_after_wide_characters_has_the_right_column() {
    assert_mistake("[root]\nlease_s = 1 # \u{20ac}\u{20ac}\n'\u{20ac}' = 1", "3:1", &["unknown field"]);
    assert_mistake("daemon = { log = \"\u{20ac}=x=\", state = \"\" }", "1:34", &["daemon.state"]);
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Overrides {
        listen: Some("192.0.2.1:7".parse().unwrap()),
        token_file: Some("f".into()),
        name: Some("b".parse().unwrap()),
        ..Overrides::default()
    };
    let text = "[daemon]\nlisten = \"192.0.2.9:9\"\nlog = \"warn\"\n[node]\nname = \"a\"\ntoken = \"t\"";
    let config = Config::parse(Path::new("acorn.toml"), text, &flags).unwrap();
    assert_eq!(config.daemon.listen.to_string(), "192.0.2.1:7");
    assert_eq!(config.daemon.log, "warn");
    assert_eq!(config.node.name.as_str(), "b");
    assert_eq!((config.node.token, config.node.token_file), (None, Some("f".into())));
}

#[test]
fn a_mistake_in_a_flag_names_the_flag() {
    let flags = Overrides { subnet: Some("10.40.0.0/26".parse().unwrap()), ..Overrides::default() };
    let message = Config::load(None, &flags).unwrap_err().to_string();
    assert!(message.starts_with("--subnet: 10.40.0.0/26: "), "{message}");
}

#[test]
fn the_overlay_mtu_leaves_room_for_the_tunnels_headers() {
    let overlay = |listen: &str, underlay: u32| {
        let text = format!("[daemon]\nlisten = \"{listen}\"\n[node]\nunderlay_mtu = {underlay}");
        parse(&text).unwrap().overlay_mtu().get()
    };
    assert_eq!((overlay("0.0.0.0:1", 1500), overlay("[::]:1", 1500)), (1440, 1408));
    assert_eq!((overlay("0.0.0.0:1", 9000), overlay("0.0.0.0:1", 65_535)), (8928, 65_472));
    assert_eq!((overlay("0.0.0.0:1", 1355), overlay("[::]:1", 576)), (1280, 1280), "IPv6 needs as much");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let message = Config::load(Some(Path::new("/nowhere/acorn.toml")), &Overrides::default()).unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/acorn.toml: can't be read"), "{message}");

    let config = NodeConfig { token_file: Some("/nowhere/token".into()), ..NodeConfig::default() };
    assert!(config.read_token().unwrap_err().to_string().starts_with("/nowhere/token: can't be read"));
}

#[test]
fn a_token_file_is_read_without_its_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "abc\n").unwrap();
    let config = NodeConfig { token_file: Some(path.clone()), ..NodeConfig::default() };
    assert_eq!(config.read_token().unwrap().unwrap().reveal(), "abc");

    fs::write(&path, "\n").unwrap();
    assert!(config.read_token().unwrap_err().to_string().contains("acorn token create"));
}
