//! The instances that are attached to this node.

use core::net::IpAddr;

use crate::addr::{Dual, Family, v4_key};
use crate::ids::InstanceId;
use crate::index::{HashIndex, HashKey};
use crate::slots::{RowRef, Slots};
use crate::table::{Kind, TableFull, key_of};
use crate::time::{Duration, Instant};

/// How many ICMP errors one attachment is told per second, and at once (RFC 4443 section 2.4 f asks for a limit, RFC 1812 section
/// 4.3.2.8 too).
pub const ERRORS_PER_SECOND: u64 = 1000;

/// The time between two errors when they come evenly.
const ERROR_INTERVAL: Duration = Duration::from_millis(1000 / ERRORS_PER_SECOND);
/// By how much they may come earlier than that.
const ERROR_BURST: Duration = Duration::from_secs(1);

/// An instance that is attached to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which instance of which service.
    pub id: InstanceId,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP.
    pub namespace_ip: Dual,
}

impl Attachment {
    const EMPTY: Self = Self { id: InstanceId::NONE, instance_ip: Dual::UNSPECIFIED, namespace_ip: Dual::UNSPECIFIED };

    /// The source of what it sends on the wire, in the form that flows have addresses in.
    #[inline]
    pub(super) fn source(&self, family: Family) -> [u8; 16] {
        match family {
            Family::V4 => v4_key(self.instance_ip.v4.octets()),
            Family::V6 => self.instance_ip.v6.octets(),
        }
    }
}

/// Up to `L` attachments, found by each of their addresses. All zero when new.
pub struct Attachments<const L: usize> {
    hash: HashKey,
    rows: [Attachment; L],
    /// When the last error that each attachment was told would have been due, had they come evenly.
    told: [Instant; L],
    slots: Slots<L>,
    /// Keys: namespace IPv4 and IPv6, instance IPv4 and IPv6.
    index: HashIndex<L, 4>,
}

impl<const L: usize> Attachments<L> {
    pub(crate) const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            rows: [const { Attachment::EMPTY }; L],
            told: [Instant::ZERO; L],
            slots: Slots::new(),
            index: HashIndex::new(),
        }
    }

    pub(crate) fn set_hash_key(&mut self, key: HashKey) {
        self.hash = key;
    }

    /// The attachment in a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&Attachment> {
        if self.slots.is_used(row) { self.rows.get(row) } else { None }
    }

    /// Whether an attachment is still there.
    #[inline]
    pub fn is_current(&self, attachment: RowRef) -> bool {
        self.slots.is_current(attachment)
    }

    /// The attachment with this namespace IP.
    pub fn by_namespace_ip(&self, address: IpAddr) -> Option<RowRef> {
        self.find(address, |which| which < 2)
    }

    /// The attachment with this instance IP.
    pub fn by_instance_ip(&self, address: IpAddr) -> Option<RowRef> {
        self.find(address, |which| which >= 2)
    }

    /// All attachments.
    pub fn iter(&self) -> impl Iterator<Item = &Attachment> {
        self.slots.iter().filter_map(|row| self.rows.get(row))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an attachment in. Those of the same instance and with the same namespace IP are replaced: says whether there was
    /// one.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for another one.
    pub fn put(&mut self, attachment: Attachment) -> Result<bool, TableFull> {
        let at_address = self.by_namespace_ip(IpAddr::V4(attachment.namespace_ip.v4));
        if at_address.is_some_and(|old| self.get(old.row()) == Some(&attachment)) {
            return Ok(false);
        }
        let same_place = at_address.and_then(|old| self.remove_row(old.row()));
        let same_instance = self.remove(attachment.id);
        let replaced = same_place.is_some() || same_instance.is_some();
        let row = self.slots.take().ok_or(TableFull { kind: Kind::Attachments, limit: L })?.row();
        if let Some(place) = self.rows.get_mut(row) {
            *place = attachment;
        }
        if let Some(told) = self.told.get_mut(row) {
            *told = Instant::ZERO;
        }
        for which in 0..4 {
            self.index.insert(self.hash_of(&attachment, which), row, which);
        }
        Ok(replaced)
    }

    /// Takes an attachment out.
    pub fn remove(&mut self, id: InstanceId) -> Option<Attachment> {
        let row = self.slots.iter().find(|row| self.rows.get(*row).is_some_and(|a| a.id == id))?;
        self.remove_row(row)
    }

    /// Whether the attachment with this namespace IP may be told another ICMP error now; if so, that counts.
    pub(super) fn may_be_told(&mut self, now: Instant, namespace_ip: IpAddr) -> bool {
        let row = self.by_namespace_ip(namespace_ip).map(RowRef::row);
        let Some(told) = row.and_then(|row| self.told.get_mut(row)) else {
            return false;
        };
        let due = (*told).max(now);
        let may = due.saturating_duration_since(now) < ERROR_BURST;
        if may {
            *told = due.saturating_add(ERROR_INTERVAL);
        }
        may
    }

    fn remove_row(&mut self, row: usize) -> Option<Attachment> {
        let attachment = *self.get(row)?;
        for which in 0..4 {
            self.index.remove(self.hash_of(&attachment, which), row, which);
        }
        self.slots.give_back(row);
        Some(attachment)
    }

    fn find(&self, address: IpAddr, of_kind: impl Fn(usize) -> bool) -> Option<RowRef> {
        let key = key_of(address);
        let (row, _) = self.index.find(self.hash.hash(&key), |row, which| {
            of_kind(which) && self.rows.get(row).is_some_and(|a| key_of(address_of(a, which)) == key)
        })?;
        self.slots.reference(row)
    }

    fn hash_of(&self, attachment: &Attachment, which: usize) -> u64 {
        self.hash.hash(&key_of(address_of(attachment, which)))
    }
}

fn address_of(attachment: &Attachment, which: usize) -> IpAddr {
    match which {
        0 => IpAddr::V4(attachment.namespace_ip.v4),
        1 => IpAddr::V6(attachment.namespace_ip.v6),
        2 => IpAddr::V4(attachment.instance_ip.v4),
        _ => IpAddr::V6(attachment.instance_ip.v6),
    }
}
