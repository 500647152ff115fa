//! A value that comes later than its place.

use heapless::Vec;

/// Holds nothing, as all zero bytes, until it is set. An `Option` of a type with forbidden values marks `None` by one of those,
/// which would move a whole engine from zero-initialized memory into the program's file.
pub(crate) struct Late<T>(Vec<T, 1>);

impl<T> Late<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.first()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.first_mut()
    }

    pub(crate) fn set(&mut self, value: T) {
        self.clear();
        // There is room: it has just been cleared.
        let _ = self.0.push(value);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
