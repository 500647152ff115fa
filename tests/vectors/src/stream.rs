//! A file of vectors: items in postcard's format, one after the other, without a header.

use core::fmt;
use core::marker::PhantomData;

use serde::{Deserialize, Serialize};

/// A file of vectors is not one, or is of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file of vectors can't be read")
    }
}

impl core::error::Error for Unreadable {}

/// An item did not fit into the bytes that there were for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the vector is too long")
    }
}

impl core::error::Error for NotWritten {}

/// The items of a file. After one that can't be read there are no more.
#[derive(Clone, Debug)]
pub struct Stream<'a, T> {
    rest: &'a [u8],
    items: PhantomData<T>,
}

impl<'a, T: Deserialize<'a>> Stream<'a, T> {
    /// The items of a file with this content.
    #[must_use]
    pub const fn new(file: &'a [u8]) -> Self {
        Self { rest: file, items: PhantomData }
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Stream<'a, T> {
    type Item = Result<T, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(self.rest) {
            Ok((item, rest)) => {
                self.rest = rest;
                Some(Ok(item))
            }
            Err(_) => {
                self.rest = &[];
                Some(Err(Unreadable))
            }
        }
    }
}

/// Writes an item to the start of `out` and returns its bytes.
///
/// # Errors
/// When `out` is too short.
pub fn write<'b>(item: &impl Serialize, out: &'b mut [u8]) -> Result<&'b [u8], NotWritten> {
    postcard::to_slice(item, out).map(|written| &*written).map_err(|_| NotWritten)
}
