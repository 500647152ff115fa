//! The data path of the core at two sizes, and what reads a board's flash, each way in under a name of its own. `cargo xtask
//! panics` builds this with the profile `panics` and follows all calls from these names; nothing here is ever run.

// With panics that abort, as in that profile, the library has no standard library and brings its own handler, which is what the
// search looks for. In other profiles it is an ordinary library, so that it is checked and documented with the rest.
#![cfg_attr(panic = "abort", no_std)]

use acorn_core::RowRef;
use acorn_core::node::{Action, Node, Output};
use acorn_core::packet::Offload;
use acorn_core::policy::Registry;
use acorn_core::provision::{self, Provisioning, ProvisioningError};
use acorn_core::time::Instant;

/// A microcontroller's node.
pub type Board = Node<16, 64, 32, 128, 4, 4>;
/// A server's node. It has fewer flows than a real one has; their number does not change the code.
pub type Server = Node<4096, 65_536, 4096, 1024, 64, 512>;

/// The same nodes again, with one place more: messages go through functions of their own, so that those of packets can be told
/// from them.
pub type TalkingBoard = Node<16, 64, 32, 128, 4, 5>;
/// As [`TalkingBoard`].
pub type TalkingServer = Node<4096, 65_536, 4096, 1024, 64, 513>;

/// The ways in, for one size of node.
macro_rules! entries {
    ($node:ty, $talking:ty, $tun:ident, $packet:ident, $message:ident, $timeout:ident, $output:ident) => {
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
            // What is known here lets the compiler leave out all that is for messages.
            if payload.first().is_none_or(|first| first >> 4 == 0) {
                return Action::Nothing;
            }
            node.handle_payload(now, peer, payload)
        }

        /// A packet or a message of a peer.
        // SAFETY: no other function has this name.
        #[unsafe(no_mangle)]
        pub fn $message(node: &mut $talking, now: Instant, peer: RowRef, payload: &mut [u8]) -> Action {
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

entries!(Board, TalkingBoard, board_tun, board_packet, board_message, board_timeout, board_output);
entries!(Server, TalkingServer, server_tun, server_packet, server_message, server_timeout, server_output);

/// The policies, which a node calls through their tables of functions only.
// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
pub fn policies() -> Registry {
    Registry::built_in()
}

/// What a board's flash says, whatever is in it.
// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
pub fn provisioning(region: &[u8]) -> Result<Provisioning, ProvisioningError> {
    provision::decode(region)
}

/// Can panic, and has to be found: a search that does not find this one sees nothing.
// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
pub fn canary(bytes: &[u8], at: usize) -> u8 {
    bytes[at]
}

/// Every panic ends here, in a function that is nowhere: nothing can be known of it, so no call of it is ever left out.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn acorn_panicked() -> !;
    }
    acorn_panicked()
}
