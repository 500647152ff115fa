//! Who calls whom, from the relocations of an object in which every function and every constant has a section of its own.
//!
//! Constants count as callers: a table of functions refers to all that may be called through it.

use anyhow::{Context, Result, anyhow};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The function behind the panic handler, which is defined nowhere.
const PANICKED: &str = "acorn_panicked";

/// A section, or a function that is defined elsewhere, by its symbol's name.
type Name = String;

/// A call that leads to a panic.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    /// From the way in down to the function that panics.
    pub path: Vec<String>,
    /// The section that the call is in.
    pub section: String,
    /// Where in there it is, in bytes.
    pub offset: u64,
}

/// Everything that refers to something.
pub struct Calls {
    /// By caller: where in it, and what is referred to.
    references: BTreeMap<Name, Vec<(u64, Name)>>,
    /// The sections of code, and how people call what is in them.
    functions: BTreeMap<Name, String>,
}

/// The object in a static library that defines a symbol.
///
/// # Errors
/// When there is none, or the library can't be understood.
pub fn member_with<'a>(library: &'a [u8], symbol: &str) -> Result<&'a [u8]> {
    for member in ArchiveFile::parse(library)?.members() {
        let data = member?.data(library)?;
        let Ok(file) = object::File::parse(data) else { continue };
        if file.symbols().any(|s| s.is_definition() && s.name() == Ok(symbol)) {
            return Ok(data);
        }
    }
    Err(anyhow!("the library has no function `{symbol}`"))
}

impl Calls {
    /// Reads an object.
    ///
    /// # Errors
    /// When it can't be understood.
    pub fn read(object: &[u8]) -> Result<Self> {
        let file = object::File::parse(object)?;
        let mut calls = Self { references: BTreeMap::new(), functions: BTreeMap::new() };
        for section in file.sections().filter(|section| is_reachable(section.kind())) {
            let name = section.name()?.to_owned();
            if section.kind() == SectionKind::Text {
                calls.functions.insert(name.clone(), readable(&name));
            }
            let mut references = Vec::new();
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let symbol = file.symbol_by_index(index)?;
                let target = match symbol.section_index() {
                    Some(section) => file.section_by_index(section)?.name()?,
                    None => symbol.name()?,
                };
                references.push((offset, target.to_owned()));
            }
            // Sections of one name, should there be any, are taken for one.
            calls.references.entry(name).or_default().extend(references);
        }
        Ok(calls)
    }

    /// The calls that lead from code reached from `entry` into the machinery of a panic.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn sites(&self, entry: &str) -> Result<Vec<Site>> {
        let came_from = self.reach(entry)?;
        let mut sites = Vec::new();
        for caller in came_from.keys().filter(|name| !self.is_panic(name)) {
            for (offset, callee) in self.references_of(caller).iter().filter(|(_, callee)| self.is_panic(callee)) {
                let mut path = vec![self.readable(callee)];
                let mut at = Some(*caller);
                while let Some(name) = at {
                    path.push(self.readable(name));
                    at = came_from.get(name).copied().flatten();
                }
                path.reverse();
                sites.push(Site { path, section: (*caller).to_owned(), offset: *offset });
            }
        }
        Ok(sites)
    }

    /// How many functions are reached from `entry`, itself included.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn functions_from(&self, entry: &str) -> Result<usize> {
        Ok(self.reach(entry)?.keys().filter(|name| self.functions.contains_key(**name)).count())
    }

    /// All that is reached from `entry`, and from where first.
    fn reach(&self, wanted: &str) -> Result<BTreeMap<&str, Option<&str>>> {
        let entry = self.functions.iter().find(|(_, readable)| *readable == wanted);
        let (entry, _) = entry.with_context(|| format!("the library has no function `{wanted}`"))?;
        let mut came_from: BTreeMap<&str, Option<&str>> = [(entry.as_str(), None)].into_iter().collect();
        let mut ahead: VecDeque<&str> = [entry.as_str()].into();
        while let Some(name) = ahead.pop_front() {
            let callees: BTreeSet<&str> = self.references_of(name).iter().map(|(_, callee)| callee.as_str()).collect();
            for callee in callees {
                if !came_from.contains_key(callee) {
                    came_from.insert(callee, Some(name));
                    ahead.push_back(callee);
                }
            }
        }
        Ok(came_from)
    }

    fn references_of(&self, name: &str) -> &[(u64, Name)] {
        self.references.get(name).map_or(&[], Vec::as_slice)
    }

    fn readable(&self, name: &str) -> String {
        self.functions.get(name).cloned().unwrap_or_else(|| readable(name))
    }

    /// Whether this belongs to the machinery of a panic. The handler's end is the one thing that matters; the others are the
    /// functions on the way there, so that their callers are found and not they.
    fn is_panic(&self, name: &str) -> bool {
        let name = self.readable(name);
        let last = name.rsplit("::").next().unwrap_or(&name);
        let of_core = name.starts_with("core::");
        let fails = last.ends_with("_fail") || last.ends_with("_failed") || last.starts_with("panic");
        name == PANICKED || last == "rust_begin_unwind" || name.starts_with("core::panicking::") || of_core && fails
    }
}

/// Code, and the constants that it refers to; not what describes them to debuggers.
fn is_reachable(kind: SectionKind) -> bool {
    use SectionKind::{Data, ReadOnlyData, ReadOnlyDataWithRel, Text};
    matches!(kind, Text | Data | ReadOnlyData | ReadOnlyDataWithRel)
}

/// The function in a section, as people write it.
fn readable(section: &str) -> String {
    let symbol = section.strip_prefix(".text.").unwrap_or(section);
    let symbol = symbol.strip_prefix("unlikely.").or_else(|| symbol.strip_prefix("hot.")).unwrap_or(symbol);
    format!("{:#}", rustc_demangle::demangle(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(edges: &[(&str, u64, &str)]) -> Calls {
        let mut calls = Calls { references: BTreeMap::new(), functions: BTreeMap::new() };
        for (caller, offset, callee) in edges {
            for name in [caller, callee] {
                if name.starts_with(".text.") {
                    calls.functions.insert((*name).to_owned(), readable(name));
                }
            }
            calls.references.entry((*caller).to_owned()).or_default().push((*offset, (*callee).to_owned()));
        }
        calls
    }

    #[test]
    fn a_panic_behind_a_table_of_functions_is_found_and_its_caller_named() {
        let calls = calls(&[
            (".text.entry", 4, ".data.table"),
            (".data.table", 8, ".text.callee"),
            (".text.callee", 16, ".text.unlikely._RNvNtCs4fqI2P2rA04_4core9panicking9panic_fmt"),
            (".text.other", 1, PANICKED),
        ]);
        let sites = calls.sites("entry").unwrap();
        assert_eq!(sites.len(), 1);
        assert_eq!((sites[0].section.as_str(), sites[0].offset), (".text.callee", 16));
        assert_eq!(sites[0].path, ["entry", ".data.table", "callee", "core::panicking::panic_fmt"]);
    }

    #[test]
    fn a_panic_that_is_not_reached_does_not_count() {
        let calls = calls(&[(".text.entry", 4, ".text.callee"), (".text.other", 1, PANICKED)]);
        assert_eq!(calls.sites("entry").unwrap(), []);
        assert_eq!(calls.functions_from("entry").unwrap(), 2);
        assert!(calls.sites("absent").is_err());
    }
}
