//! Reading a page field by field into its place: built from whole fields, as other messages are, it would be on the stack several times.

use heapless::Vec;
use serde::{Deserialize, Deserializer};

use super::{PageKind, Subject, TablePage};

type Input<'a> = postcard::Deserializer<'a, postcard::de_flavors::Slice<'a>>;

impl TablePage {
    /// A page that says nothing.
    pub(super) const EMPTY: Self = Self {
        subject: Subject::whole(crate::ids::ServiceId(0)),
        stream: 0,
        sequence: 0,
        more: false,
        kind: PageKind::Patch,
        header: None,
        nodes: Vec::new(),
        records: Vec::new(),
        removed: Vec::new(),
    };

    /// Reads all fields, in the order in which they are written.
    ///
    /// # Errors
    /// The error of the first field that is not well formed, or has more members than there is room for.
    pub(super) fn read(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let input = &mut Input::from_bytes(bytes);
        self.subject = Deserialize::deserialize(&mut *input)?;
        self.stream = Deserialize::deserialize(&mut *input)?;
        self.sequence = Deserialize::deserialize(&mut *input)?;
        self.more = Deserialize::deserialize(&mut *input)?;
        self.kind = Deserialize::deserialize(&mut *input)?;
        self.header = Deserialize::deserialize(&mut *input)?;
        read_list(&mut self.nodes, input)?;
        read_list(&mut self.records, input)?;
        read_list(&mut self.removed, input)
    }
}

/// Not the way to read a page: [`Message::decode`](super::Message::decode) is. Pages that are said to be one in another way than the
/// usual one are refused.
impl<'a> Deserialize<'a> for TablePage {
    fn deserialize<D: Deserializer<'a>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a page is read in its place"))
    }
}

/// Reads a list's length and members.
#[inline(never)]
fn read_list<'a, T: Deserialize<'a>, const N: usize>(
    list: &mut Vec<T, N>,
    input: &mut Input<'a>,
) -> postcard::Result<()> {
    for _ in 0..usize::deserialize(&mut *input)? {
        list.push(T::deserialize(&mut *input)?).map_err(|_| postcard::Error::SerdeDeCustom)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use proptest::prelude::*;
    use serde::Deserialize;

    use crate::ids::ServiceId;
    use crate::sync::message::*;
    use crate::table::samples::{header, node_record, record};

    /// The fields of a page, for derived code to read.
    #[derive(Deserialize)]
    struct Derived {
        subject: Subject,
        stream: u32,
        sequence: u32,
        more: bool,
        kind: PageKind,
        header: Option<ServiceHeader>,
        nodes: Vec<NodeRecord, PAGE_RECORDS>,
        records: Vec<InstanceRecord, PAGE_RECORDS>,
        removed: Vec<u32, PAGE_REMOVED>,
    }

    fn derived(payload: &[u8]) -> Option<Message> {
        let Derived { subject, stream, sequence, more, kind, header, nodes, records, removed } =
            postcard::from_bytes(payload.get(2..)?).ok()?;
        let page = TablePage { subject, stream, sequence, more, kind, header, nodes, records, removed };
        Some(Message::Table(page))
    }

    prop_compose! {
        fn page()(
            numbers in any::<(u32, u32, u32, bool)>(),
            instance in any::<Option<u32>>(),
            kind in prop_oneof![
                any::<(u32, Option<u32>)>().prop_map(|(from, to)| PageKind::Replace { from, to }),
                Just(PageKind::Patch),
                Just(PageKind::Gone),
            ],
            ips in prop::option::of(prop::collection::vec(0..200u32, 0..4)),
            nodes in prop::collection::vec(0..200u32, 0..=PAGE_RECORDS),
            records in prop::collection::vec((0..900u32, 0..200u32), 0..=PAGE_RECORDS),
            removed in prop::collection::vec(any::<u32>(), 0..=PAGE_REMOVED),
        ) -> TablePage {
            TablePage {
                subject: Subject { service: ServiceId(numbers.0), instance },
                stream: numbers.1,
                sequence: numbers.2,
                more: numbers.3,
                kind,
                header: ips.map(|ips| header(&ips)),
                nodes: nodes.into_iter().map(node_record).collect(),
                records: records.into_iter().map(|(number, node)| record(1, number, node)).collect(),
                removed: removed.into_iter().collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn a_page_is_read_as_derived_code_reads_it(page in page(), place in any::<prop::sample::Index>(), byte: u8) {
            let (message, mut buffer) = (Message::Table(page), [0; 1400]);
            let length = postcard::to_slice(&message, &mut buffer[1..]).unwrap().len() + 1;
            buffer[0] = PROTOCOL_VERSION;
            let payload = &mut buffer[..length];
            prop_assert_eq!(payload[1], TABLE);
            prop_assert_eq!(Message::decode(payload).ok(), Some(message.clone()));
            prop_assert_eq!(derived(payload), Some(message));
            // And what is wrong is as wrong: cut off anywhere, and with any other byte anywhere.
            let place = 2 + place.index(length - 2);
            prop_assert_eq!(Message::decode(&payload[..place]).ok(), derived(&payload[..place]));
            payload[place] = byte;
            prop_assert_eq!(Message::decode(payload).ok(), derived(payload));
        }

        #[test]
        fn any_bytes_are_read_as_derived_code_reads_them(rest in prop::collection::vec(0..20u8, 0..200)) {
            let payload: std::vec::Vec<u8> = [PROTOCOL_VERSION, TABLE].into_iter().chain(rest).collect();
            prop_assert_eq!(Message::decode(&payload).ok(), derived(&payload));
        }
    }

    #[test]
    fn a_page_under_a_number_with_needless_bytes_is_refused() {
        let empty = [PROTOCOL_VERSION, TABLE, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(Message::decode(&empty), Ok(Message::Table(TablePage::EMPTY)));
        let [version, number, rest @ ..] = empty;
        let long: std::vec::Vec<u8> = [version, number | 0x80, 0].into_iter().chain(rest).collect();
        assert_eq!(Message::decode(&long), Err(DecodeError::Malformed));
    }
}
