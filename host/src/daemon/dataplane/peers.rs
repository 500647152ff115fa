//! Who wants which tunnel: the engine, by the row of a node, and the manager in this process, by key.

use acorn_core::RowRef;

use crate::tunnel::PeerHandle;

/// One tunnel's users and its traffic.
#[derive(Clone, Copy, Default)]
struct Entry {
    handle: Option<PeerHandle>,
    row: Option<RowRef>,
    held: bool,
    received: u64,
    sent: u64,
}

/// Ties the engine's peers to the tunnels' by dense tables, so that no packet costs a hash.
#[derive(Default)]
pub(super) struct PeerBook {
    by_handle: Vec<Entry>,
    by_row: Vec<Option<(RowRef, PeerHandle)>>,
}

impl PeerBook {
    /// The engine's peer in `row` is reached through `handle`.
    pub(super) fn bind(&mut self, handle: PeerHandle, row: RowRef) {
        self.entry(handle).row = Some(row);
        if self.by_row.len() <= row.row() {
            self.by_row.resize(row.row() + 1, None);
        }
        self.by_row[row.row()] = Some((row, handle));
    }

    /// The engine does not know the peer any more. Returns its handle when nobody else wants the tunnel.
    pub(super) fn unbind(&mut self, row: RowRef) -> Option<PeerHandle> {
        let (_, handle) = self.by_row.get_mut(row.row())?.take_if(|(bound, _)| *bound == row)?;
        let entry = self.entry(handle);
        entry.row = None;
        (!entry.held).then_some(handle)
    }

    /// The manager wants the tunnel.
    pub(super) fn hold(&mut self, handle: PeerHandle) {
        self.entry(handle).held = true;
    }

    /// The manager does not want the tunnel any more. True when nobody else does.
    pub(super) fn release(&mut self, handle: PeerHandle) -> bool {
        let entry = self.entry(handle);
        entry.held = false;
        entry.row.is_none()
    }

    /// Whether nobody wants the tunnel.
    pub(super) fn is_unwanted(&self, handle: PeerHandle) -> bool {
        let entry = self.by_handle.get(handle.index()).filter(|entry| entry.handle == Some(handle));
        entry.is_none_or(|entry| entry.row.is_none() && !entry.held)
    }

    /// The engine's peer behind a tunnel.
    pub(super) fn row_of(&self, handle: PeerHandle) -> Option<RowRef> {
        self.by_handle.get(handle.index()).filter(|entry| entry.handle == Some(handle))?.row
    }

    /// The tunnel to a peer of the engine's.
    pub(super) fn handle_of(&self, row: RowRef) -> Option<PeerHandle> {
        let (bound, handle) = self.by_row.get(row.row()).copied().flatten()?;
        (bound == row).then_some(handle)
    }

    pub(super) fn count_received(&mut self, handle: PeerHandle, bytes: usize) {
        self.entry(handle).received += bytes as u64;
    }

    pub(super) fn count_sent(&mut self, handle: PeerHandle, bytes: usize) {
        self.entry(handle).sent += bytes as u64;
    }

    /// Bytes received from and sent to a peer.
    pub(super) fn traffic(&self, handle: PeerHandle) -> (u64, u64) {
        let entry = self.by_handle.get(handle.index()).filter(|entry| entry.handle == Some(handle));
        entry.map_or((0, 0), |entry| (entry.received, entry.sent))
    }

    /// The entry of a handle, begun anew when its place belonged to a peer that was removed.
    fn entry(&mut self, handle: PeerHandle) -> &mut Entry {
        if self.by_handle.len() <= handle.index() {
            self.by_handle.resize(handle.index() + 1, Entry::default());
        }
        let entry = &mut self.by_handle[handle.index()];
        if entry.handle != Some(handle) {
            *entry = Entry { handle: Some(handle), ..Entry::default() };
        }
        entry
    }
}
