//! What fits the path to a node, and what is done with what does not.

use super::{Router, Verdict};
use crate::addr::Family;
use crate::mtu::OverlayMtu;
use crate::packet::{View, clamp_mss, reply};
use crate::stats::DropReason;
use crate::time::{Duration, Instant};

/// How long a learned path MTU counts: after that a larger one may have become possible (RFC 1191 section 6.3, RFC 8201 section 4).
pub const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);

/// How a packet goes to another node.
pub(super) enum Fit {
    /// As it is.
    Whole,
    /// In fragments of this length.
    Cut(OverlayMtu),
    /// Not at all: it is longer than this.
    TooBig(OverlayMtu),
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// Sets what fits every path that nothing smaller was learned of.
    pub fn set_overlay_mtu(&mut self, mtu: OverlayMtu) {
        self.overlay_mtu = mtu.get();
    }

    /// Takes note of what fits the path to the node in row `node`, for [`PATH_MTU_LIFETIME`]. While a smaller one counts, it is ignored.
    pub fn learn_path_mtu(&mut self, now: Instant, node: usize, mtu: OverlayMtu) {
        if let Some(node) = self.table.node_mut(node)
            && (now >= node.path_mtu_until || mtu.get() <= node.path_mtu)
        {
            node.path_mtu = mtu.get();
            node.path_mtu_until = now.saturating_add(PATH_MTU_LIFETIME);
        }
    }

    /// The longest packet that fits the path to the node in row `node`.
    #[inline]
    pub fn mtu_to(&self, now: Instant, node: usize) -> OverlayMtu {
        let own = OverlayMtu::new(self.overlay_mtu).unwrap_or_default();
        match self.table.node(node) {
            Some(node) if now < node.path_mtu_until => OverlayMtu::new(node.path_mtu).unwrap_or(own).min(own),
            _ => own,
        }
    }

    /// How the packet goes to the node in row `node`. To this node itself there is no path.
    #[inline]
    pub(super) fn fit(&self, now: Instant, node: usize, view: &View) -> Fit {
        // Nothing is looked up for what fits every path.
        if self.is_self(node) || view.segment_len() <= usize::from(OverlayMtu::MIN.get()) {
            return Fit::Whole;
        }
        let mtu = self.mtu_to(now, node);
        if view.segment_len() <= usize::from(mtu.get()) {
            Fit::Whole
        } else if view.family() == Family::V4 && !view.dont_fragment() && view.offload().gso_size == 0 {
            Fit::Cut(mtu)
        } else {
            Fit::TooBig(mtu)
        }
    }

    /// Lowers what a TCP end offers to take, so that the other never sends what does not fit the path (RFC 4459 section 3.2).
    #[inline]
    pub(super) fn clamp(&self, now: Instant, node: usize, packet: &mut [u8], view: &View) {
        if view.tcp().is_some_and(|segment| segment.flags.syn()) {
            clamp_mss(packet, view, self.mtu_to(now, node));
        }
    }

    /// Drops a packet that is too long, and tells the application what would fit.
    pub(super) fn refuse_too_big(
        &mut self,
        now: Instant,
        mtu: OverlayMtu,
        packet: &[u8],
        view: &View,
        out: &mut [u8],
    ) -> Verdict {
        const REASON: DropReason = DropReason::TooBig;
        self.counters.count(REASON);
        if view.tcp().is_some_and(|segment| segment.flags.rst()) {
            return Verdict::Drop(REASON);
        }
        let error = reply::too_big(out, packet, view, view.dst(), u32::from(mtu.get())).ok();
        self.tell(now, REASON, view.src(), error)
    }
}
