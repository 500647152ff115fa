//! Packets that are cut off, damaged or lie, one way at a time.
