//! The server of the control API: routes, limits and errors over whatever does the work ([`Backend`]).

use std::future::{Future, IntoFuture};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::idempotency::Idempotency;
use super::socket::ControlSocket;
use super::types::{
    AdjustRequest, AttachRequest, Attached, Drops, LOAD_MAX, Nodes, Service, Services, Status, TOKEN_EXPIRY_MAX_S,
    TOKENS_MAX, Table, TokenRequest, Tokens,
};
use crate::root::RequestKey;
use crate::sla::{self, ServiceName, ServiceRequest};

/// The largest request body in bytes.
pub const BODY_MAX: usize = 1 << 20;
/// How long requests that are under way may take to finish once the server is told to end.
const GRACE: Duration = Duration::from_secs(2);

/// Does what the API's clients ask for. A daemon without the role for a method answers [`ApiError::no_role`].
pub trait Backend: Send + Sync + 'static {
    /// The daemon as it is now.
    fn status(&self) -> impl Future<Output = Result<Status, ApiError>> + Send;
    /// What the node knows. Node role.
    fn table(&self) -> impl Future<Output = Result<Table, ApiError>> + Send;
    /// Why packets were dropped. Node role.
    fn drops(&self) -> impl Future<Output = Result<Drops, ApiError>> + Send;
    /// The nodes of the network. Root role.
    fn nodes(&self) -> impl Future<Output = Result<Nodes, ApiError>> + Send;
    /// Makes join tokens; count and expiry are within their ranges. Root role.
    fn create_tokens(&self, request: TokenRequest) -> impl Future<Output = Result<Tokens, ApiError>> + Send;
    /// All services. Root role.
    fn services(&self) -> impl Future<Output = Result<Services, ApiError>> + Send;
    /// Creates all services of an SLA, or none of them; a repeat of the key gets the answer of the first. Root role.
    fn create_services(
        &self,
        wanted: Vec<ServiceRequest>,
        key: Option<RequestKey>,
    ) -> impl Future<Output = Result<Services, ApiError>> + Send;
    /// One service. Root role.
    fn service(&self, name: ServiceName) -> impl Future<Output = Result<Service, ApiError>> + Send;
    /// Removes a service; a repeat of the key is done already. Root role.
    fn remove_service(
        &self,
        name: ServiceName,
        key: Option<RequestKey>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Connects an instance; a repeat of the key gets the answer of the first. Node role.
    fn attach(
        &self,
        request: AttachRequest,
        key: Option<RequestKey>,
    ) -> impl Future<Output = Result<Attached, ApiError>> + Send;
    /// Changes how an instance of this node is picked; there is something to change, and it is within its range. Node role.
    fn adjust(
        &self,
        service: ServiceName,
        number: u32,
        change: AdjustRequest,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Disconnects an instance of this node; a repeat of the key is done already. Node role.
    fn detach(
        &self,
        service: ServiceName,
        number: u32,
        key: Option<RequestKey>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Begins to end the daemon: removes what it made on the host, then stops serving.
    fn down(&self) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// The routes of the API.
fn router<B: Backend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(b): State<Arc<B>>| b.status().await.map(Json)))
        .route("/v1/table", get(async |State(b): State<Arc<B>>| b.table().await.map(Json)))
        .route("/v1/drops", get(async |State(b): State<Arc<B>>| b.drops().await.map(Json)))
        .route("/v1/nodes", get(async |State(b): State<Arc<B>>| b.nodes().await.map(Json)))
        .route("/v1/tokens", post(create_tokens::<B>))
        .route("/v1/services", get(list_services::<B>).post(create_services::<B>))
        .route("/v1/services/{name}", get(show_service::<B>).delete(remove_service::<B>))
        .route("/v1/instances", post(attach::<B>))
        .route("/v1/instances/{service}/{number}", patch(adjust::<B>).delete(detach::<B>))
        .route("/v1/down", post(down::<B>))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(backend)
}

/// Serves the API until `shutdown` is ready and the requests under way are answered. The socket's file stays until
/// `socket` is dropped: `acorn down` takes its removal for the end of the daemon, so drop it last.
///
/// # Errors
/// When the runtime can't take the listener.
pub async fn serve<B: Backend>(
    socket: &ControlSocket,
    backend: Arc<B>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(socket.listener()?)?;
    let (ending, ended) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        shutdown.await;
        drop(ending);
    };
    let serving = axum::serve(listener, router(backend)).with_graceful_shutdown(shutdown).into_future();
    let patience = async {
        let _ = ended.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serving => result,
        // A client that doesn't finish its request doesn't keep the daemon alive.
        () = patience => Ok(()),
    }
}

async fn create_tokens<B: Backend>(
    State(backend): State<Arc<B>>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<(StatusCode, Json<Tokens>), ApiError> {
    if !(1..=TOKENS_MAX).contains(&request.count) {
        let message = format!("count is {}; one request makes 1 to {TOKENS_MAX} tokens", request.count);
        return Err(ApiError::bad_request("bad_count", message));
    }
    if !(1..=TOKEN_EXPIRY_MAX_S).contains(&request.expires_s) {
        let message = format!("expires_s is {}; a token lasts 1 to {TOKEN_EXPIRY_MAX_S} s", request.expires_s);
        return Err(ApiError::bad_request("bad_expiry", message));
    }
    if request.endpoint.is_some_and(|at| at.port() == 0 || at.ip().is_unspecified()) {
        let message = "endpoint is no address and port that a node could send to";
        return Err(ApiError::bad_request("bad_endpoint", message));
    }
    backend.create_tokens(request).await.map(|tokens| (StatusCode::CREATED, Json(tokens)))
}

async fn list_services<B: Backend>(State(backend): State<Arc<B>>) -> Result<Json<Services>, ApiError> {
    backend.services().await.map(Json)
}

async fn create_services<B: Backend>(
    State(backend): State<Arc<B>>,
    Idempotency(key): Idempotency,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<Services>), ApiError> {
    let wanted = sla::parse(&body)?;
    backend.create_services(wanted, key).await.map(|services| (StatusCode::CREATED, Json(services)))
}

async fn show_service<B: Backend>(
    State(backend): State<Arc<B>>,
    Segments(name): Segments<String>,
) -> Result<Json<Service>, ApiError> {
    backend.service(service_name(&name)?).await.map(Json)
}

async fn remove_service<B: Backend>(
    State(backend): State<Arc<B>>,
    Segments(name): Segments<String>,
    Idempotency(key): Idempotency,
) -> Result<StatusCode, ApiError> {
    backend.remove_service(service_name(&name)?, key).await.map(|()| StatusCode::NO_CONTENT)
}

async fn attach<B: Backend>(
    State(backend): State<Arc<B>>,
    Idempotency(key): Idempotency,
    JsonBody(request): JsonBody<AttachRequest>,
) -> Result<(StatusCode, Json<Attached>), ApiError> {
    backend.attach(request, key).await.map(|attached| (StatusCode::CREATED, Json(attached)))
}

async fn adjust<B: Backend>(
    State(backend): State<Arc<B>>,
    Segments((service, number)): Segments<(String, String)>,
    JsonBody(change): JsonBody<AdjustRequest>,
) -> Result<StatusCode, ApiError> {
    let (service, number) = (service_name(&service)?, instance_number(&number)?);
    if change == AdjustRequest::default() {
        let message = format!("nothing to set of {service} instance {number}; give weight, priority, load or draining");
        return Err(ApiError::bad_request("nothing_to_set", message));
    }
    if let Some(load) = change.load.filter(|load| *load > LOAD_MAX) {
        let message = format!("load is {load}; it is 0 to {LOAD_MAX} thousandths of what the instance can take");
        return Err(ApiError::bad_request("bad_load", message));
    }
    backend.adjust(service, number, change).await.map(|()| StatusCode::NO_CONTENT)
}

async fn detach<B: Backend>(
    State(backend): State<Arc<B>>,
    Segments((service, number)): Segments<(String, String)>,
    Idempotency(key): Idempotency,
) -> Result<StatusCode, ApiError> {
    let (service, number) = (service_name(&service)?, instance_number(&number)?);
    backend.detach(service, number, key).await.map(|()| StatusCode::NO_CONTENT)
}

async fn down<B: Backend>(State(backend): State<Arc<B>>) -> Result<StatusCode, ApiError> {
    backend.down().await.map(|()| StatusCode::ACCEPTED)
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found("unknown_path", format!("there is no {} in this API; its paths begin with /v1/", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not for {}; the header Allow says what is", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

fn service_name(text: &str) -> Result<ServiceName, ApiError> {
    ServiceName::new(text).map_err(|error| ApiError::bad_request("bad_name", format!("`{text}`: {error}")))
}

fn instance_number(text: &str) -> Result<u32, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request("bad_number", format!("`{text}` is not an instance number; it is 0 to {}", u32::MAX))
    })
}

/// The parameters in a request's path.
struct Segments<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(ApiError::new(rejection.status(), "bad_path", rejection.body_text())),
        }
    }
}

/// A request's body within [`BODY_MAX`], as it came.
struct RawBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;
    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            let status = rejection.status();
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::new(status, "body_too_large", format!("the body is larger than {BODY_MAX} bytes; send less"))
            } else {
                ApiError::new(status, "bad_body", rejection.body_text())
            }
        })
    }
}

/// A request's body as JSON of a type; the error gives the line and column.
struct JsonBody<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, ApiError> {
        let RawBody(body) = RawBody::from_request(request, state).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| ApiError::bad_request("bad_json", format!("the body is refused: {error}")))
    }
}

#[cfg(test)]
mod tests;
