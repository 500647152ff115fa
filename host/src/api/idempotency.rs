//! The header `Idempotency-Key`: a client that repeats a request, because the answer got lost, sends the same key again.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::error::ApiError;
use crate::root::{REQUEST_KEY_MAX, RequestKey};

/// The header's name.
pub const HEADER: &str = "idempotency-key";

/// The key of a request, if it has one.
pub struct Idempotency(pub Option<RequestKey>);

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self(None));
        };
        match value.to_str().ok().and_then(RequestKey::new) {
            Some(key) => Ok(Self(Some(key))),
            None => Err(ApiError::bad_request(
                "bad_idempotency_key",
                format!(
                    "the header Idempotency-Key is {value:?}; it is 1 to {REQUEST_KEY_MAX} printable ASCII characters without spaces"
                ),
            )),
        }
    }
}

/// 422: the key was used for something else.
pub fn reused(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
}
