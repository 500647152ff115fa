//! How much memory a microcontroller's engine takes: it fails to compile when it outgrows its share of a small board's RAM.

use super::Node;

/// 16 services, 64 instances, 32 nodes, 128 flows, one attachment, 4 waiting packets, those included.
type Board = Node<16, 64, 32, 128, 1, 4>;

/// What it may take, in bytes.
const BUDGET: usize = 48 * 1024;

const _: () = assert!(size_of::<Board>() <= BUDGET, "the engine of a board is larger than 48 KiB");
