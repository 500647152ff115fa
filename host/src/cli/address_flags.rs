//! The flags of `acorn service create` for addresses: a pair per balancing policy, as the registry has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::sla::{Choice, OfferedPolicy, WantedAddress};

/// The heading of these flags.
const HEADING: &str = "Addresses";

/// The addresses that the flags ask for, in the order of the registry.
#[derive(Debug)]
pub(super) struct AddressFlags {
    pub(super) wanted: Vec<WantedAddress>,
}

/// The flags of one policy: for IPv4, and for IPv6.
struct PolicyFlags {
    policy: OfferedPolicy,
    v4: Flag,
    v6: Flag,
}

/// A flag by the SLA's field that it stands for, and as it is typed.
struct Flag {
    field: String,
    long: String,
}

static FLAGS: LazyLock<Vec<PolicyFlags>> = LazyLock::new(|| flags_of(OfferedPolicy::built_in()));

impl Args for AddressFlags {
    fn augment_args(command: Command) -> Command {
        add(command, &FLAGS)
    }

    fn augment_args_for_update(command: Command) -> Command {
        add(command, &FLAGS)
    }
}

impl FromArgMatches for AddressFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self { wanted: wanted(matches, &FLAGS) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.wanted = wanted(matches, &FLAGS);
        Ok(())
    }
}

fn flags_of(policies: Vec<OfferedPolicy>) -> Vec<PolicyFlags> {
    let flag = |field: String| Flag { long: field.replace('_', "-"), field };
    let flags = policies.into_iter().map(|policy| PolicyFlags {
        v4: flag(policy.field.to_owned()),
        v6: flag(policy.field_v6()),
        policy,
    });
    flags.collect()
}

fn add(command: Command, flags: &'static [PolicyFlags]) -> Command {
    command.args(flags.iter().flat_map(|PolicyFlags { policy, v4, v6 }| {
        let summary = policy.summary.trim_end_matches('.');
        let help = format!("An address under {}, like 10.30.0.1. {summary}", policy.ip_type);
        let help_v6 = format!("The same in IPv6, like {}", policy.example_v6());
        [arg::<Ipv4Addr>(v4, help), arg::<Ipv6Addr>(v6, help_v6)]
    }))
}

fn arg<A: FromStr<Err: std::error::Error + Send + Sync> + Clone + Into<IpAddr> + Send + Sync + 'static>(
    flag: &'static Flag,
    help: String,
) -> Arg {
    Arg::new(flag.field.as_str())
        .long(flag.long.as_str())
        .help(help)
        .help_heading(HEADING)
        .value_name("ADDR|auto")
        .num_args(0..=1)
        .default_missing_value("auto")
        .value_parser(|text: &str| text.parse::<Choice<A>>())
        .conflicts_with("sla")
}

fn wanted(matches: &ArgMatches, flags: &[PolicyFlags]) -> Vec<WantedAddress> {
    let asked = flags.iter().filter_map(|PolicyFlags { policy, v4, v6 }| {
        let v4 = matches.get_one::<Choice<Ipv4Addr>>(&v4.field).copied();
        let v6 = matches.get_one::<Choice<Ipv6Addr>>(&v6.field).copied();
        let is_asked = v4.is_some() || v6.is_some();
        let (v4, v6) = (v4.and_then(Choice::fixed), v6.and_then(Choice::fixed));
        is_asked.then(|| WantedAddress { policy: policy.clone(), v4, v6 })
    });
    asked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sla::samples;

    /// The `IpType` of a policy, and the addresses under it that have to be certain ones.
    type Asked = (String, Option<Ipv4Addr>, Option<Ipv6Addr>);

    /// A command with the flags of the sample policies.
    fn command(flags: &'static [PolicyFlags]) -> Command {
        add(Command::new("create").arg(Arg::new("sla").long("sla")), flags)
    }

    /// What that command takes.
    fn read(line: &str) -> Result<Vec<Asked>, Error> {
        let flags: &[PolicyFlags] = flags_of(samples()).leak();
        let matches = command(flags).try_get_matches_from(line.split(' '))?;
        let wanted = wanted(&matches, flags).into_iter();
        Ok(wanted.map(|wanted| (wanted.policy.ip_type.to_string(), wanted.v4, wanted.v6)).collect())
    }

    #[test]
    fn every_policy_has_a_pair_of_flags() {
        let (v4, v6) = (Some("10.30.0.9".parse().unwrap()), Some("fdff:9000::9".parse().unwrap()));
        for (line, expected) in [
            ("create", vec![]),
            ("create --rr-ip auto", vec![("RR", None, None)]),
            ("create --nearest-ip", vec![("Nearest", None, None)]),
            ("create --nearest-ip-v6", vec![("Nearest", None, None)]),
            ("create --nearest-ip=10.30.0.9 --nearest-ip-v6 auto", vec![("Nearest", v4, None)]),
            ("create --nearest-ip --nearest-ip-v6 FDFF:9000:0::9", vec![("Nearest", None, v6)]),
            ("create --lucky-ip 10.30.0.9 --rr-ip", vec![("RR", None, None), ("Lucky", v4, None)]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(name, v4, v6)| (name.to_owned(), v4, v6)).collect();
            assert_eq!(read(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_at_its_flag() {
        for (line, says) in [
            ("create --nearest-ip 10.30.999.1", "--nearest-ip [<ADDR|auto>]"),
            ("create --nearest-ip-v6 10.30.0.1", "--nearest-ip-v6 [<ADDR|auto>]"),
            ("create --lucky-ip Auto", "'Auto'"),
            ("create --lucky-ip=", "--lucky-ip"),
            ("create --cheapest-ip 10.30.0.1", "--cheapest-ip"),
            ("create --lucky-ip --lucky-ip", "multiple times"),
            ("create --lucky-ip --sla f", "cannot be used with"),
            ("create --sla f --nearest-ip-v6 fdff:9000::1", "cannot be used with"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_says_what_each_policy_does() {
        let help = command(flags_of(samples()).leak()).render_help().to_string();
        for says in ["--lucky-ip [<ADDR|auto>]", "under Lucky, like 10.30.0.1. As Lucky has it\n", "fdff:9000::1"] {
            assert!(help.contains(says), "{says}: {help}");
        }
    }
}
