//! The numbers by which the rows of a table refer to each other.

/// A number of a row, or of a key of a row, plus one; 0 is none.
///
/// A microcontroller has no room for tables of more than 65,535 rows, so there it is half as wide: such numbers are a good part of small
/// tables.
#[cfg(target_os = "none")]
pub(crate) type Link = u16;
/// A number of a row, or of a key of a row, plus one; 0 is none.
#[cfg(not(target_os = "none"))]
pub(crate) type Link = u32;

/// Whether there is a link to each of so many rows, or keys.
pub(crate) const fn reach(rows: usize) -> bool {
    rows <= Link::MAX as usize
}
