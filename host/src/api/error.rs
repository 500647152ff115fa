//! The errors of the control API: an HTTP status and `{"error": {"code": "snake_case", "message": "..."}}`.

use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::sla::SlaError;

/// Why a request failed, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What programs tell errors apart by, in snake_case.
    pub code: String,
    /// What people read: what failed, on what, and what to do next.
    pub message: String,
}

/// The JSON of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What an [`ErrorBody`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// See [`ApiError::code`].
    pub code: String,
    /// See [`ApiError::message`].
    pub message: String,
}

impl ApiError {
    /// An error of the given status.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// 400: the request breaks a rule, whatever the daemon's state.
    pub fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404: what the request names is not there.
    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 409: the request is fine, but not in the state that things are in: a name or an address is taken, a pool is full.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 421: the daemon does not have the role that serves this request. `role` is `root` or `node`.
    pub fn no_role(role: &str) -> Self {
        let message = format!(
            "this daemon does not have the role `{role}`; ask one that was started with `acorn {role}` or `acorn up` \
             (choose it with --socket)"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "no_role", message)
    }

    /// 503: something that the request needs does not answer at the moment.
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 500: the daemon failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: ErrorDetail { code: self.code, message: self.message } };
        (self.status, Json(body)).into_response()
    }
}

impl From<SlaError> for ApiError {
    fn from(error: SlaError) -> Self {
        let code = match error {
            SlaError::Json(_) => "bad_json",
            SlaError::Mistakes(_) => "bad_sla",
        };
        Self::bad_request(code, error.to_string())
    }
}
