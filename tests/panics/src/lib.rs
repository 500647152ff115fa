//! The data path of the core at two sizes, each way in under a name of its own. `cargo xtask panics` builds this with the
//! profile `panics` and follows all calls from these names; nothing here is ever run.

// With panics that abort, as in that profile, the library has no standard library and brings its own handler, which is what the
// search looks for. In other profiles it is an ordinary library, so that it is checked and documented with the rest.
#![cfg_attr(panic = "abort", no_std)]

use acorn_core::RowRef;
use acorn_core::node::{Action, Node, Output};
use acorn_core::packet::Offload;
use acorn_core::time::Instant;

/// A microcontroller's node.
pub type Board = Node<16, 64, 32, 128, 4, 4>;
/// A server's node, with fewer flows: their number does not change the code.
pub type Server = Node<4096, 65_536, 4096, 1024, 64, 512>;

/// The ways in, for one size of node.
macro_rules! entries {
    ($node:ty, $tun:ident, $packet:ident, $message:ident, $timeout:ident, $output:ident) => {
        /// A packet of a local application.
        // SAFETY: no other function has this name.
        #[unsafe(no_mangle)]
        pub fn $tun(node: &mut $node, now: Instant, packet: &mut [u8], offload: Offload, reply: &mut [u8]) -> Action {
            node.handle_tun(now, packet, offload, reply)
        }

        /// A packet of a peer.
        // SAFETY: no other function has this name.
        #[unsafe(no_mangle)]
        pub fn $packet(node: &mut $node, now: Instant, peer: RowRef, payload: &mut [u8]) -> Action {
            node.handle_payload(now, peer, payload)
        }

        /// What is due.
        // SAFETY: no other function has this name.
        #[unsafe(no_mangle)]
        pub fn $timeout(node: &mut $node, now: Instant) {
            node.handle_timeout(now);
        }

        /// What is to be sent.
        // SAFETY: no other function has this name.
        #[unsafe(no_mangle)]
        pub fn $output(node: &mut $node, now: Instant, out: &mut [u8]) -> Option<Output> {
            node.poll_output(now, out)
        }
    };
}

entries!(Board, board_handle_tun, board_handle_payload, board_message, board_handle_timeout, board_poll_output);
entries!(Server, server_handle_tun, server_handle_payload, server_message, server_handle_timeout, server_poll_output);

/// Every panic ends here.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
