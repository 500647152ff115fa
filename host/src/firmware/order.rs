//! What an operator wants of a board, and what the board is told of it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use acorn_core::provision::{Call, Join, Provisioning, SecretKey, Underlay};
use acorn_core::sync::message::ManagerRecord;
use acorn_core::{Endpoint, ServiceName};

use super::{HostAddress, ProvisionError};
use crate::config::NodeName;
use crate::identity::{Identity, JoinToken};

/// What an operator wants of a board.
#[derive(Clone, Debug)]
pub struct Order {
    /// Lets the board in.
    pub token: JoinToken,
    /// The board's name in lists.
    pub name: NodeName,
    /// The board's address on the underlay; without one it asks for one by DHCP.
    pub address: Option<HostAddress>,
    /// The router of the board's network. Without an address of the board's own it is not used.
    pub gateway: Option<Ipv4Addr>,
    /// The board's UDP port, 1 to 65535.
    pub port: u16,
    /// The service that the board is an instance of.
    pub serve: Option<ServiceName>,
    /// What the board calls by itself.
    pub call: Option<Call>,
}

impl Order {
    /// What a board with this key pair is told, at `now` in seconds since 1970.
    ///
    /// Of the manager's endpoints it is told the first that a board can dial.
    ///
    /// # Errors
    /// [`ProvisionError`], when the token has expired, or the board could not reach its manager or do what is wanted.
    pub fn provisioning(&self, identity: &Identity, now: u64) -> Result<Provisioning, ProvisionError> {
        if self.token.is_expired(now) {
            return Err(ProvisionError::Expired);
        }
        let manager = self.manager_endpoint()?;
        let record = ManagerRecord { key: self.token.manager(), endpoint: Endpoint::from(SocketAddr::V4(manager)) };
        let provisioning = Provisioning {
            key: SecretKey::from(*identity.private().as_bytes()),
            name: self.name.as_str().chars().collect(),
            underlay: self.address.map_or(Underlay::Dhcp, |address| address.underlay(self.gateway)),
            managers: [record].into_iter().collect(),
            join: Some(Join {
                secret: SecretKey::from(*self.token.join().private().as_bytes()),
                expires: self.token.expires(),
            }),
            port: self.port,
            serve: self.serve.clone(),
            call: self.call,
        };
        provisioning.check()?;
        match self.address {
            Some(own) if own.address() == *manager.ip() => Err(ProvisionError::AddressOfManager(own.address())),
            Some(network) if self.gateway.is_none() && !network.reaches(*manager.ip()) => {
                Err(ProvisionError::NoGateway { manager, network })
            }
            _ => Ok(provisioning),
        }
    }

    /// Where a board reaches the manager of the token.
    ///
    /// # Errors
    /// [`ProvisionError::NoIpv4`].
    pub fn manager_endpoint(&self) -> Result<SocketAddrV4, ProvisionError> {
        let endpoints = self.token.endpoints();
        let for_a_board = |endpoint: &SocketAddr| match endpoint {
            SocketAddr::V4(at) => (!at.ip().is_loopback()).then_some(*at),
            SocketAddr::V6(_) => None,
        };
        endpoints.iter().find_map(for_a_board).ok_or_else(|| {
            let named: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            ProvisionError::NoIpv4(named.join(", "))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use acorn_core::NodeKey;
    use acorn_core::provision::Flaw;

    const EXPIRES: u64 = 1_900_000_000;

    pub(crate) fn order(endpoints: &[&str]) -> Order {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|at| at.parse().unwrap()).collect();
        Order {
            token: JoinToken::generate(NodeKey([9; 32]), &endpoints, EXPIRES).unwrap().0,
            name: "greenhouse-7".parse().unwrap(),
            address: None,
            gateway: None,
            port: 50103,
            serve: None,
            call: None,
        }
    }

    fn error(order: &Order) -> ProvisionError {
        order.provisioning(&Identity::generate().unwrap(), EXPIRES - 1).unwrap_err()
    }

    #[test]
    fn a_board_is_told_what_was_ordered() {
        let identity = Identity::generate().unwrap();
        let mut order = order(&["192.0.2.1:50103"]);
        let plain = order.provisioning(&identity, EXPIRES - 1).unwrap();
        assert_eq!(plain.key.as_bytes(), identity.private().as_bytes());
        assert_eq!((plain.name.as_str(), plain.underlay), ("greenhouse-7", Underlay::Dhcp));
        assert_eq!(plain.managers.len(), 1);
        assert_eq!(plain.managers[0].key, NodeKey([9; 32]));
        assert_eq!(plain.managers[0].endpoint.get(), Some("192.0.2.1:50103".parse().unwrap()));
        let join = plain.join.unwrap();
        assert_eq!((join.secret.as_bytes(), join.expires), (order.token.join().private().as_bytes(), EXPIRES));
        assert_eq!((plain.port, plain.serve, plain.call), (50103, None, None));

        order.address = Some("192.168.1.20/24".parse().unwrap());
        order.gateway = Some("192.168.1.1".parse().unwrap());
        order.port = 7;
        order.serve = Some("farm.prod.telemetry.prod".parse().unwrap());
        order.call = Some(Call { address: [10, 30, 0, 1].into(), port: 80, period_s: 30 });
        let full = order.provisioning(&identity, EXPIRES - 1).unwrap();
        let (address, gateway) = ([192, 168, 1, 20].into(), Some([192, 168, 1, 1].into()));
        assert_eq!(full.underlay, Underlay::Static { address, prefix: 24, gateway });
        assert_eq!((full.port, full.serve, full.call), (7, order.serve, order.call));
    }

    #[test]
    fn the_first_endpoint_for_boards_is_taken() {
        let order = order(&["[2001:db8::1]:1", "127.0.0.1:2", "192.0.2.1:3", "192.0.2.2:4"]);
        assert_eq!(order.manager_endpoint().unwrap(), "192.0.2.1:3".parse().unwrap());
    }

    #[test]
    fn a_manager_that_no_board_can_dial_is_an_error() {
        let text = error(&order(&["[2001:db8::1]:1", "127.0.0.1:2"])).to_string();
        assert!(text.contains("only [2001:db8::1]:1, 127.0.0.1:2: boards speak IPv4"), "{text}");
    }

    #[test]
    fn an_expired_token_is_an_error() {
        let order = order(&["192.0.2.1:50103"]);
        let at = |now| order.provisioning(&Identity::generate().unwrap(), now);
        assert!(at(EXPIRES - 1).is_ok());
        assert!(matches!(at(EXPIRES), Err(ProvisionError::Expired)));
    }

    #[test]
    fn an_address_from_which_the_manager_is_out_of_reach_is_an_error() {
        let mut order = order(&["192.0.2.1:50103"]);
        order.address = Some("192.168.1.20/24".parse().unwrap());
        let text = error(&order).to_string();
        assert!(text.contains("192.0.2.1:50103 is not in 192.168.1.20/24") && text.contains("--gateway"), "{text}");
        order.gateway = Some("192.168.2.1".parse().unwrap());
        assert!(matches!(error(&order), ProvisionError::Flaw(Flaw::Gateway)));
        order.address = Some("192.0.2.1/24".parse().unwrap());
        order.gateway = None;
        assert!(matches!(error(&order), ProvisionError::AddressOfManager(_)));
        order.address = Some("192.0.2.2/24".parse().unwrap());
        assert!(order.provisioning(&Identity::generate().unwrap(), 0).is_ok(), "beside the manager");
    }
}
