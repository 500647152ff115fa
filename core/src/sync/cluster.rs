//! What clusters and their root say to each other besides what nodes and managers say: nodes' requests passed on, their standing, and
//! which pages all nodes of the cluster have.
//!
//! These messages begin with the protocol's version and [`MARK`], which no [`Message`](super::message::Message) has as its second byte,
//! so that nodes need not know them.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::ids::{Endpoint, NodeKey};
use crate::sync::message::{DecodeError, MESSAGE_MAX, PROTOCOL_VERSION, Subject, TooLong};

/// The second byte of every message between a cluster and its root.
pub const MARK: u8 = 0x7f;
/// The longest message of a node that is passed on, and the longest answer, in bytes.
pub const PASSED_MAX: usize = 512;

/// A message of a node's, or the answer to it.
pub type Passed = Vec<u8, PASSED_MAX>;

/// What a key is to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStanding {
    /// Nothing.
    Unknown,
    /// A join key that can still be used.
    Join,
    /// A node's, or one that an operator has registered for a node.
    Node,
}

/// One message between a cluster and its root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// Cluster to root: a node has said this to me. Repeated when the node repeats itself.
    Pass {
        /// The key that its tunnel proved.
        of: NodeKey,
        /// Where it came from.
        observed: Endpoint,
        /// What it said, word for word.
        payload: Passed,
    },
    /// Root to cluster: the answer, for the node.
    Answer {
        /// The node's key.
        of: NodeKey,
        /// The answer.
        payload: Passed,
    },
    /// Cluster to root: somebody wants a tunnel under this key; whose is it?
    AskKey {
        /// The key.
        key: NodeKey,
    },
    /// Root to cluster: what the key is.
    KeyIs {
        /// The key.
        key: NodeKey,
        /// What it is.
        standing: KeyStanding,
    },
    /// Cluster to root: the lease of a node of mine has ended, or it is heard from again. Repeated until it is `Done`.
    Standing {
        /// The request's number.
        request: u32,
        /// The node's key.
        node: NodeKey,
        /// It is heard from.
        alive: bool,
    },
    /// Cluster to root: what a node of mine has not said again in this start of it, it does not run. Repeated until it is `Done`.
    Settle {
        /// The request's number.
        request: u32,
        /// The node's key.
        node: NodeKey,
        /// Its boot epoch.
        epoch: u32,
    },
    /// Root to cluster: a `Standing` or `Settle` has had its effect.
    Done {
        /// The request.
        request: u32,
    },
    /// Cluster to root: all nodes of mine know what I know of the subject up to this page. Repeated until it is `Noted`.
    Held {
        /// The subject.
        subject: Subject,
        /// The stream.
        stream: u32,
        /// The page.
        sequence: u32,
    },
    /// Root to cluster: the answer to `Held`.
    Noted {
        /// The subject.
        subject: Subject,
        /// The stream.
        stream: u32,
        /// The page.
        sequence: u32,
    },
}

impl ClusterMessage {
    /// Whether a payload is one of these messages, by its first two bytes.
    pub fn is_one(payload: &[u8]) -> bool {
        matches!(payload, [PROTOCOL_VERSION, MARK, ..])
    }

    /// Writes the message into `buffer` and returns its length in bytes.
    ///
    /// # Errors
    /// [`TooLong`] when it has no room in `buffer` or in [`MESSAGE_MAX`] bytes.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let room = buffer.len().min(MESSAGE_MAX);
        let (head, body) = buffer.get_mut(..room).and_then(|buffer| buffer.split_first_chunk_mut()).ok_or(TooLong)?;
        *head = [PROTOCOL_VERSION, MARK];
        let written = postcard::to_slice(self, body).map_err(|_| TooLong)?.len();
        Ok(written.saturating_add(head.len()))
    }

    /// Reads a message. Trailing bytes are ignored: the tunnel pads with zeros.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong; nothing of a wrong payload is believed.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        match payload {
            [] => Err(DecodeError::Empty),
            [PROTOCOL_VERSION, MARK, body @ ..] => {
                let mut input = postcard::Deserializer::from_bytes(body);
                Self::deserialize(&mut input).map_err(|_| DecodeError::Malformed)
            }
            [PROTOCOL_VERSION, ..] => Err(DecodeError::Malformed),
            [other, ..] => Err(DecodeError::Version(*other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServiceId;
    use crate::sync::message::Message;

    #[test]
    fn what_is_written_is_read_and_nodes_do_not_take_it_for_theirs() {
        let subject = Subject::whole(ServiceId(7));
        let node = NodeKey([3; 32]);
        let payload = Passed::from_slice(&[0xab; PASSED_MAX]).unwrap();
        let messages = [
            ClusterMessage::Pass { of: node, observed: Endpoint::UNKNOWN, payload: payload.clone() },
            ClusterMessage::Answer { of: node, payload },
            ClusterMessage::AskKey { key: node },
            ClusterMessage::KeyIs { key: node, standing: KeyStanding::Join },
            ClusterMessage::Standing { request: 1, node, alive: true },
            ClusterMessage::Settle { request: u32::MAX, node, epoch: 9 },
            ClusterMessage::Done { request: 5 },
            ClusterMessage::Held { subject, stream: 4, sequence: 2 },
            ClusterMessage::Noted { subject, stream: 4, sequence: 2 },
        ];
        let mut buffer = [0; MESSAGE_MAX];
        for message in messages {
            let len = message.encode(&mut buffer).unwrap();
            assert!(ClusterMessage::is_one(&buffer[..len]));
            assert!(!Message::is_for_manager(&buffer[..len]));
            assert_eq!(Message::decode(&buffer[..len]), Err(DecodeError::Malformed));
            // With the padding of a tunnel.
            assert_eq!(ClusterMessage::decode(&buffer[..len + 3]), Ok(message.clone()));
            for cut in 0..len {
                assert_ne!(ClusterMessage::decode(&buffer[..cut]), Ok(message.clone()), "{cut} bytes of {message:?}");
            }
            buffer.fill(0);
        }
    }
}
