//! Whose a symbol is, from its name.

/// A part of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `acorn-core`.
    Core,
    /// `wireguard-sans-io`.
    WireGuard,
    /// `embassy-net` with `smoltcp`, and what belongs to them alone.
    Net,
    /// `acorn-embassy`, the application and the board's program.
    Node,
    /// Executor, time, drivers, codecs and the language's own library.
    Rest,
    /// What has no name: constants, and what alignment takes.
    Unnamed,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Core, Self::WireGuard, Self::Net, Self::Node, Self::Rest, Self::Unnamed];

    /// What a person reads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::WireGuard => "WireGuard",
            Self::Net => "embassy-net",
            Self::Node => "acorn-embassy, application",
            Self::Rest => "executor, time, drivers, Rust's library",
            Self::Unnamed => "constants without a name",
        }
    }

    /// The part that a mangled symbol is of. Generic code is its crate's, whoever's types it is for.
    pub fn of_symbol(mangled: &str) -> Self {
        match crate_of(&format!("{:#}", rustc_demangle::demangle(mangled))) {
            "acorn_core" => Self::Core,
            "wireguard_sans_io" => Self::WireGuard,
            "smoltcp" | "managed" => Self::Net,
            name if name.starts_with("embassy_net") => Self::Net,
            // A board's program is named like the board; board support is not the application's.
            "acorn_embassy" | "acorn_node" | "mps2_node" | "nucleo_h743zi" | "w5500_evb_pico2" => Self::Node,
            _ => Self::Rest,
        }
    }
}

/// What polls a task: it is the executor's by its name, and all that is in there is the task's.
const POLL_OF_TASK: &str = "<embassy_executor::raw::TaskStorage<";

/// The crate of a function or a static; empty when the name says none, as those of C do.
fn crate_of(name: &str) -> &str {
    if let Some(task) = name.strip_prefix(POLL_OF_TASK) {
        return crate_of(task);
    }
    let Some(inner) = name.strip_prefix('<') else {
        return path_root(name);
    };
    let Some((of, implemented)) = split_at_as(inner) else {
        return crate_of(without_sigils(inner));
    };
    // An implementation is in the crate of its type, unless that is the language's: then it is in its trait's.
    match crate_of(without_sigils(of)) {
        "" | "core" | "alloc" | "std" => path_root(implemented),
        own => own,
    }
}

/// The first segment of a path that has several.
fn path_root(path: &str) -> &str {
    path.split_once("::").map(|(root, _)| root).filter(|root| root.chars().all(is_of_name)).unwrap_or_default()
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// `T as Trait` in two, where it is not inside of another pair of angle brackets.
fn split_at_as(inner: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            // The arrow of a function's type closes nothing.
            b'>' if at > 0 && inner.as_bytes().get(at - 1) == Some(&b'-') => {}
            b'>' => depth -= 1,
            b' ' if depth == 0 && inner[at..].starts_with(" as ") => return Some((&inner[..at], &inner[at + 4..])),
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

/// A type without what stands before its path.
fn without_sigils(mut name: &str) -> &str {
    const SIGILS: [&str; 7] = ["&", "*const ", "*mut ", "mut ", "dyn ", "[", "("];
    while let Some(rest) = SIGILS.iter().find_map(|sigil| name.strip_prefix(sigil)) {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_of_the_crate_that_defines_it() {
        let crates = [
            ("acorn_core::packet::quote::rewrite_error", "acorn_core"),
            ("<acorn_core::router::Router<16, 64>>::outbound", "acorn_core"),
            ("<acorn_core::policy::sticky::Sticky as acorn_core::policy::Policy>::pick", "acorn_core"),
            ("<acorn_core::table::Row as core::fmt::Debug>::fmt", "acorn_core"),
            ("<&acorn_core::table::Row as core::fmt::Debug>::fmt", "acorn_core"),
            ("<core::option::Option<acorn_core::Row> as postcard::Ser>::to", "postcard"),
            ("<[u8] as smoltcp::phy::Thing>::of", "smoltcp"),
            ("core::ptr::drop_in_place::<acorn_node::Reading>", "core"),
            ("<core::slice::Iter<'_, u8>>::next", "core"),
            ("<embassy_executor::raw::TaskStorage<acorn_node::__call::{closure#0}>>::poll", "acorn_node"),
            ("<embassy_executor::raw::Executor>::poll", "embassy_executor"),
            ("<<a::B as c::D>::E as f::G>::h", "a"),
            ("<fn(u8) -> a::B as c::D>::e", "c"),
            ("__aeabi_memcpy", ""),
        ];
        for (name, expected) in crates {
            assert_eq!(crate_of(name), expected, "{name}");
        }
    }

    #[test]
    fn mangled_names_are_understood() {
        let symbol =
            "_RNvMNtNtCsl8mcdeOgK1f_10acorn_core6router8outboundINtB4_6RouterKj10_E4sendCsjn0fjgtRmli_10acorn_node";
        assert_eq!(Part::of_symbol(symbol), Part::Core);
        assert_eq!(Part::of_symbol("_RNvCsjn0fjgtRmli_10acorn_node9RESOURCES"), Part::Node);
        assert_eq!(Part::of_symbol("memcpy"), Part::Rest);
    }
}
