//! What a program takes of flash and RAM, from its ELF file.

use super::parts::Part;
use anyhow::{Context, Result};
use object::elf::{SHF_ALLOC, SHF_WRITE, SHT_NOBITS};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionIndex};
use std::collections::{BTreeMap, HashMap};

/// Bytes by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split(BTreeMap<Part, u64>);

impl Split {
    /// All bytes.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The bytes of one part.
    pub fn of(&self, part: Part) -> u64 {
        self.0.get(&part).copied().unwrap_or(0)
    }

    fn add(&mut self, part: Part, bytes: u64) {
        *self.0.entry(part).or_default() += bytes;
    }
}

impl FromIterator<(Part, u64)> for Split {
    fn from_iter<T: IntoIterator<Item = (Part, u64)>>(parts: T) -> Self {
        let mut split = Self::default();
        parts.into_iter().for_each(|(part, bytes)| split.add(part, bytes));
        split
    }
}

/// What a program takes.
#[derive(Debug)]
pub struct Usage {
    /// Code, constants, and what `.data` is loaded from.
    pub flash: Split,
    /// Statics: `.data`, `.bss` and `.uninit`.
    pub ram: Split,
    /// The region that the linker gives to the stack, in bytes.
    pub stack: u64,
}

/// A piece of memory that a symbol names.
struct Named {
    address: u64,
    bytes: u64,
    part: Part,
}

impl Usage {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// When it is none, or does not say where the stack is.
    pub fn of(elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf)?;
        let top = address(&file, "_stack_start").context("the program does not say where its stack begins")?;
        let bottom = address(&file, "_stack_end").context("the program does not say where its stack ends")?;
        let mut usage = Self { flash: Split::default(), ram: Split::default(), stack: top.saturating_sub(bottom) };
        let mut symbols = symbols_by_section(&file);
        for section in file.sections() {
            let SectionFlags::Elf { sh_type, sh_flags } = section.flags() else { continue };
            if !sh_flags.contains(SHF_ALLOC) {
                continue;
            }
            let has_contents = sh_type != SHT_NOBITS;
            let is_written = sh_flags.contains(SHF_WRITE);
            let named = symbols.remove(&section.index()).unwrap_or_default();
            for (part, bytes) in split(section.address(), section.size(), named).0 {
                if has_contents {
                    usage.flash.add(part, bytes);
                }
                if is_written {
                    usage.ram.add(part, bytes);
                }
            }
        }
        Ok(usage)
    }
}

fn address(file: &object::File<'_>, name: &str) -> Option<u64> {
    file.symbol_by_name(name).map(|symbol| symbol.address())
}

fn symbols_by_section(file: &object::File<'_>) -> HashMap<SectionIndex, Vec<Named>> {
    let mut sections: HashMap<SectionIndex, Vec<Named>> = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.size() > 0) {
        let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name()) else { continue };
        // The lowest bit of a function's address says that it is Thumb code.
        let address = if symbol.kind() == object::SymbolKind::Text { symbol.address() & !1 } else { symbol.address() };
        let named = Named { address, bytes: symbol.size(), part: Part::of_symbol(name) };
        sections.entry(section).or_default().push(named);
    }
    sections
}

/// Who has how much of a section. What two symbols name counts for the one that begins first.
fn split(start: u64, bytes: u64, mut symbols: Vec<Named>) -> Split {
    let end = start + bytes;
    let mut split = Split::default();
    let mut counted = start;
    symbols.sort_by_key(|symbol| symbol.address);
    for symbol in symbols {
        let from = symbol.address.clamp(counted, end);
        let to = (symbol.address + symbol.bytes).clamp(from, end);
        split.add(Part::Unnamed, from - counted);
        split.add(symbol.part, to - from);
        counted = to;
    }
    split.add(Part::Unnamed, end - counted);
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(address: u64, bytes: u64, part: Part) -> Named {
        Named { address, bytes, part }
    }

    #[test]
    fn every_byte_of_a_section_counts_once() {
        let symbols = vec![
            named(0x120, 0x10, Part::Node),
            named(0x110, 8, Part::Core),
            named(0x110, 8, Part::Net),
            named(0x114, 8, Part::Rest),
        ];
        let split = split(0x100, 0x28, symbols);
        assert_eq!(split.total(), 0x28);
        assert_eq!(split.of(Part::Core), 8);
        assert_eq!(split.of(Part::Net), 0);
        assert_eq!(split.of(Part::Rest), 4);
        // What is outside of the section is not in it.
        assert_eq!(split.of(Part::Node), 8);
        assert_eq!(split.of(Part::Unnamed), 0x10 + 4);
    }
}
