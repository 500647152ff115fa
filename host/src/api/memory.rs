//! A backend that keeps services in memory: what the tests of the HTTP shapes and of the command line run against.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::Notify;

use super::error::ApiError;
use super::server::Backend;
use super::types::{
    AdjustRequest, AttachRequest, Attached, Drops, Instance, Nodes, Service, ServiceIp, Services, Status, Table,
    TokenRequest, Tokens,
};
use crate::root::RequestKey;
use crate::sla::{ServiceName, ServiceRequest};

/// A daemon with the root role, and of the node role what the tests need.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) services: Mutex<BTreeMap<String, Service>>,
    pub(crate) tokens: Mutex<Vec<TokenRequest>>,
    /// Told when the daemon is to end.
    pub(crate) ended: Notify,
}

impl Memory {
    fn missing(name: &ServiceName) -> ApiError {
        ApiError::not_found("no_such_service", format!("there is no service {name}; `acorn service ls` lists them"))
    }
}

impl Backend for Memory {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status { version: "1".to_owned(), ..Status::default() })
    }

    async fn table(&self) -> Result<Table, ApiError> {
        Err(ApiError::no_role("node"))
    }

    async fn drops(&self) -> Result<Drops, ApiError> {
        Ok(Drops::default())
    }

    async fn nodes(&self) -> Result<Nodes, ApiError> {
        Ok(Nodes::default())
    }

    async fn create_tokens(&self, request: TokenRequest) -> Result<Tokens, ApiError> {
        let tokens = (0..request.count).map(|n| format!("t{n}")).collect();
        self.tokens.lock().unwrap().push(request);
        Ok(Tokens { tokens })
    }

    async fn services(&self) -> Result<Services, ApiError> {
        Ok(Services { services: self.services.lock().unwrap().values().cloned().collect() })
    }

    async fn create_services(&self, wanted: Vec<ServiceRequest>, _: Option<RequestKey>) -> Result<Services, ApiError> {
        let mut all = self.services.lock().unwrap();
        if let Some(taken) = wanted.iter().find(|request| all.contains_key(request.name.as_str())) {
            return Err(ApiError::conflict("name_taken", format!("there is a service {} already", taken.name)));
        }
        let created: Vec<_> = wanted
            .into_iter()
            .map(|request| Service {
                name: request.name.to_string(),
                service_ip_list: (0..)
                    .zip(request.addresses)
                    .map(|(place, wanted)| ServiceIp {
                        ip_type: wanted.policy.ip_type.as_str().to_owned(),
                        address: wanted.v4.unwrap_or([10, 30, place, 1].into()),
                        address_v6: wanted.v6.unwrap_or(wanted.policy.example_v6()),
                    })
                    .collect(),
                instances: Vec::new(),
            })
            .collect();
        all.extend(created.iter().map(|service| (service.name.clone(), service.clone())));
        Ok(Services { services: created })
    }

    async fn service(&self, name: ServiceName) -> Result<Service, ApiError> {
        self.services.lock().unwrap().get(name.as_str()).cloned().ok_or_else(|| Self::missing(&name))
    }

    async fn remove_service(&self, name: ServiceName, _: Option<RequestKey>) -> Result<(), ApiError> {
        self.services.lock().unwrap().remove(name.as_str()).map(drop).ok_or_else(|| Self::missing(&name))
    }

    async fn attach(&self, request: AttachRequest, _: Option<RequestKey>) -> Result<Attached, ApiError> {
        let mut all = self.services.lock().unwrap();
        let service = all.get_mut(request.service.as_str()).ok_or_else(|| Self::missing(&request.service))?;
        let number = request.number.unwrap_or(0);
        let instance = Instance {
            number,
            instance_ip: [10, 30, 0, 2].into(),
            instance_ip_v6: [0xfdff, 0, 0, 0, 0, 0, 0, 1].into(),
            namespace_ip: Some([10, 18, 30, 65].into()),
            namespace_ip_v6: Some([0xfc00, 0, 0, 0, 0, 0, 0, 1].into()),
            node: Some("a2V5".to_owned()),
            node_name: Some("edge-1".to_owned()),
            alive: true,
            weight: request.weight.unwrap_or(1),
            priority: request.priority.unwrap_or(0),
            load: 0,
            draining: false,
        };
        service.instances.push(instance.clone());
        Ok(Attached {
            service: request.service.to_string(),
            number,
            instance_ip: instance.instance_ip,
            instance_ip_v6: instance.instance_ip_v6,
            namespace_ip: instance.namespace_ip.unwrap(),
            namespace_ip_v6: instance.namespace_ip_v6.unwrap(),
        })
    }

    async fn adjust(&self, service: ServiceName, number: u32, change: AdjustRequest) -> Result<(), ApiError> {
        let mut all = self.services.lock().unwrap();
        let found = all.get_mut(service.as_str()).ok_or_else(|| Self::missing(&service))?;
        for instance in found.instances.iter_mut().filter(|instance| instance.number == number) {
            instance.weight = change.weight.unwrap_or(instance.weight);
            instance.priority = change.priority.unwrap_or(instance.priority);
            instance.load = change.load.unwrap_or(instance.load);
            instance.draining = change.draining.unwrap_or(instance.draining);
        }
        Ok(())
    }

    async fn detach(&self, service: ServiceName, number: u32, _: Option<RequestKey>) -> Result<(), ApiError> {
        let mut all = self.services.lock().unwrap();
        let found = all.get_mut(service.as_str()).ok_or_else(|| Self::missing(&service))?;
        found.instances.retain(|instance| instance.number != number);
        Ok(())
    }

    async fn down(&self) -> Result<(), ApiError> {
        self.ended.notify_one();
        Ok(())
    }
}
