//! Packets that are longer than the path carries, and may be cut.

use std::time::Instant;

use acorn_core::RowRef;
use acorn_core::mtu::OverlayMtu;
use acorn_core::packet::{Fragments, Offload, View};
use tracing::debug;

use super::{Buffers, Dataplane, Source};

impl Dataplane {
    /// Cuts the packet of `len` bytes in a buffer, seals each fragment and sends it. `offload` is what the packet came with.
    pub(super) fn send_cut(
        &mut self,
        now: Instant,
        peer: RowRef,
        len: usize,
        source: Source,
        offload: Offload,
        mtu: OverlayMtu,
    ) {
        let Buffers { packet, reply, .. } = &mut self.buffers;
        let packet = if source == Source::Reply { reply } else { packet };
        let cut = View::parse(&packet[..len], offload).map(|view| Fragments::new(&mut packet[..len], &view, mtu));
        // The engine asks for it only where it can be done.
        let Ok(Ok(mut fragments)) = cut else {
            debug!(?cut, "a packet was not cut");
            return;
        };
        loop {
            let Buffers { packet, reply, fragment, .. } = &mut self.buffers;
            let packet = if source == Source::Reply { reply } else { packet };
            let Some(len) = fragments.next(&packet[..len], fragment) else { return };
            self.send(now, peer, len, Source::Fragment);
        }
    }
}
