//! Every refusal of the API: RFC 9457 problem documents, or for gateways a bare head. The only file that names a status for an error.
//!
//! An [`ApiError`] does not render itself: it travels in the response's extensions until [`render`] writes the body, since
//! only `observe`, around all handlers, knows the request's id.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;
use utoipa::ToSchema;

use super::dialect::Dialect;
use crate::auth::CheckError;
use crate::store::with_sources;

/// The wait that is suggested while a dependency is away, in seconds. It is looked at once a second, so 1 would be too
/// eager for a herd and much more would keep people waiting after it is back.
const DEPENDENCY_RETRY_AFTER: u64 = 2;

/// Why a request was refused, in the words of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The name and the password don't belong together, for whatever reason.
    InvalidCredentials,
    /// Whoever holds the token does not know the current password.
    WrongPassword,
    /// No bearer token was sent.
    MissingToken,
    /// The token is malformed, unknown, expired or revoked.
    InvalidToken,
    /// No registered client, or not its secret.
    InvalidClient,
    /// A form that a browser sent from another site.
    CrossSite,
    /// Whoever asks is no administrator.
    Forbidden,
    /// What is asked for contradicts what is there; the text says how.
    Conflict(&'static str),
    /// No such route.
    NotFound,
    /// The route doesn't know this method. `Allow` is set by the router.
    MethodNotAllowed,
    /// The body is larger than `server.body_limit`.
    PayloadTooLarge,
    /// The body is written in another way than the route reads.
    UnsupportedMediaType {
        /// In which it does.
        expected: &'static str,
    },
    /// The body can't be parsed; the text says why without quoting it.
    MalformedBody(String),
    /// The body was parsed, but fields are missing or wrong.
    InvalidInput(Vec<FieldError>),
    /// A form login asked for another `grant_type` than `password`.
    UnsupportedGrantType,
    /// The client was slow to send its body.
    RequestTimeout,
    /// Too many attempts for a name, or from an address.
    TooManyAttempts {
        /// When to try again.
        retry_after: Duration,
    },
    /// More logins than can be hashed, or the request took too long.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database or the token store can't be used now.
    DependencyUnavailable,
    /// A bug. The cause is in the log.
    Internal,
}

/// One wrong field of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Name of the field.
    #[schema(example = "password")]
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    #[schema(example = "must not be empty")]
    pub message: String,
}

/// The error document, RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Problem")]
pub struct Problem {
    /// Identifies the kind of error.
    #[serde(rename = "type")]
    #[schema(example = "urn:claviger:error:invalid-credentials")]
    kind: String,
    /// The kind of error for people.
    title: &'static str,
    /// The status code.
    #[schema(example = 401)]
    status: u16,
    /// What was wrong this time.
    detail: String,
    /// The kind of error for programs; stable.
    #[schema(example = "invalid-credentials")]
    code: &'static str,
    /// Finds the request in the log.
    request_id: String,
    /// The wrong fields, for `invalid-input`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// RFC 6749, section 5.2; on form-encoded logins and below `/v1.0/token/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// RFC 6749, section 5.2; on form-encoded logins and below `/v1.0/token/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<String>,
}

impl ApiError {
    /// Invalid input, with what the domain says of each field.
    pub(crate) fn invalid_input(fields: Vec<(&'static str, String)>) -> Self {
        let fields = fields.into_iter();
        let errors = fields.map(|(field, message)| FieldError {
            field: field.into(),
            message,
        });
        Self::InvalidInput(errors.collect())
    }

    /// The stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidCredentials | Self::WrongPassword => "invalid-credentials",
            Self::MissingToken => "missing-token",
            Self::InvalidToken => "invalid-token",
            Self::InvalidClient => "invalid-client",
            Self::CrossSite | Self::Forbidden => "forbidden",
            Self::Conflict(_) => "conflict",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::PayloadTooLarge => "payload-too-large",
            Self::UnsupportedMediaType { .. } => "unsupported-media-type",
            Self::MalformedBody(_) => "malformed-body",
            Self::InvalidInput(_) | Self::UnsupportedGrantType => "invalid-input",
            Self::RequestTimeout => "request-timeout",
            Self::TooManyAttempts { .. } => "too-many-attempts",
            Self::Overloaded { .. } => "overloaded",
            Self::DependencyUnavailable => "dependency-unavailable",
            Self::Internal => "internal",
        }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidCredentials
            | Self::MissingToken
            | Self::InvalidToken
            | Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::CrossSite | Self::Forbidden | Self::WrongPassword => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MalformedBody(_) => StatusCode::BAD_REQUEST,
            Self::InvalidInput(_) | Self::UnsupportedGrantType => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded { .. } | Self::DependencyUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::InvalidCredentials | Self::WrongPassword => "Invalid credentials",
            Self::MissingToken => "Token missing",
            Self::InvalidToken => "Token invalid",
            Self::InvalidClient => "Client invalid",
            Self::CrossSite | Self::Forbidden => "Forbidden",
            Self::Conflict(_) => "Conflict",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::PayloadTooLarge => "Body too large",
            Self::UnsupportedMediaType { .. } => "Unsupported media type",
            Self::MalformedBody(_) => "Malformed body",
            Self::InvalidInput(_) | Self::UnsupportedGrantType => "Invalid input",
            Self::RequestTimeout => "Request timed out",
            Self::TooManyAttempts { .. } => "Too many attempts",
            Self::Overloaded { .. } => "Overloaded",
            Self::DependencyUnavailable => "Dependency unavailable",
            Self::Internal => "Internal error",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::InvalidCredentials => "The username or the password is wrong.".to_owned(),
            Self::WrongPassword => "The current password is wrong.".to_owned(),
            Self::MissingToken => "Send the token as 'Authorization: Bearer <token>'.".to_owned(),
            Self::InvalidToken => "The token is malformed, unknown, expired or revoked.".to_owned(),
            Self::InvalidClient => {
                "Send the name and the secret of a registered client by HTTP Basic, in one header.".to_owned()
            }
            Self::CrossSite => "A form login must come from the same site.".to_owned(),
            Self::Forbidden => "Only administrators may do this.".to_owned(),
            Self::Conflict(detail) => (*detail).to_owned(),
            Self::NotFound => "There is no such resource.".to_owned(),
            Self::MethodNotAllowed => "The resource does not know this method; see the header Allow.".to_owned(),
            Self::PayloadTooLarge => "The body is larger than the service takes.".to_owned(),
            Self::UnsupportedMediaType { expected } => format!("Send {expected}."),
            Self::MalformedBody(reason) => reason.clone(),
            Self::InvalidInput(_) => "Some fields are missing or wrong; see errors.".to_owned(),
            Self::UnsupportedGrantType => "grant_type, if sent, must be 'password'.".to_owned(),
            Self::RequestTimeout => "The body did not arrive in time.".to_owned(),
            Self::TooManyAttempts { .. } => "Too many attempts to log in; try again after the time in Retry-After.".to_owned(),
            Self::Overloaded { .. } => "The service is busy; try again after the time in Retry-After.".to_owned(),
            Self::DependencyUnavailable => {
                "Something that the service depends on is unavailable; try again after the time in Retry-After."
                    .to_owned()
            }
            Self::Internal => "Something went wrong here; the log has the cause under the request id.".to_owned(),
        }
    }

    /// The wrong fields of the input, if that is what was wrong.
    fn fields(self) -> Vec<FieldError> {
        match self {
            Self::InvalidInput(fields) => fields,
            Self::UnsupportedGrantType => {
                vec![FieldError {
                    field: "grant_type".into(),
                    message: "must be 'password'".to_owned(),
                }]
            }
            _ => Vec::new(),
        }
    }

    /// The error code of RFC 6749, section 5.2. It has no word for an outage, but RFC 6749, section 4.1.2.1 has.
    fn oauth(&self) -> &'static str {
        match self {
            Self::InvalidCredentials => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::TooManyAttempts { .. }
            | Self::Overloaded { .. }
            | Self::DependencyUnavailable => "temporarily_unavailable",
            Self::Internal => "server_error",
            _ => "invalid_request",
        }
    }

    /// `Retry-After` in whole seconds, rounded up.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyAttempts { retry_after } | Self::Overloaded { retry_after } => {
                Some((retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).max(1))
            }
            Self::DependencyUnavailable => Some(DEPENDENCY_RETRY_AFTER),
            _ => None,
        }
    }

    /// Puts what a program reads of the error into the head of its answer.
    fn put_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            // RFC 6750, section 3.1: no error code when the client sent no credentials.
            Self::InvalidCredentials | Self::MissingToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::InvalidToken => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer error=\"invalid_token\""),
                );
            }
            Self::InvalidClient => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"claviger\""),
                );
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

/// What a client is told of a token that is not accepted, or of a store that is away. The cause stays here, in the log.
impl From<CheckError> for ApiError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::InvalidToken => Self::InvalidToken,
            CheckError::Unavailable(cause) => {
                tracing::warn!(cause = %with_sources(&cause), "a request could not be answered");
                Self::DependencyUnavailable
            }
            CheckError::Internal(cause) => {
                tracing::error!(%cause, "a request failed");
                Self::Internal
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the failure of a response that carries an [`ApiError`], in the words of `dialect`; leaves any other as it is.
///
/// Where that is [`Dialect::Bare`], every response becomes one of those that a gateway understands.
pub(crate) fn render(mut response: Response, request_id: &str, dialect: Dialect) -> Response {
    let error = response.extensions_mut().remove::<ApiError>();
    if dialect == Dialect::Bare {
        return bare(response, error);
    }
    let Some(error) = error else {
        return response;
    };

    let headers = response.headers_mut();
    // That of the empty body; the server counts the document.
    headers.remove(CONTENT_LENGTH);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    error.put_headers(headers);

    let speaks_oauth = dialect == Dialect::OAuth;
    let problem = Problem {
        kind: format!("urn:claviger:error:{}", error.code()),
        title: error.title(),
        status: error.status().as_u16(),
        detail: error.detail(),
        code: error.code(),
        request_id: request_id.to_owned(),
        error: speaks_oauth.then(|| error.oauth()),
        error_description: speaks_oauth.then(|| error.detail()),
        errors: error.fields(),
    };
    *response.body_mut() = match serde_json::to_vec(&problem) {
        Ok(document) => Body::from(document),
        Err(_) => Body::empty(),
    };
    response
}

/// 200, 401 or 503, without a body. nginx makes a 500 of any other status, and closes its connection to the service after an
/// answer that has a body.
fn bare(mut response: Response, error: Option<ApiError>) -> Response {
    if error.is_some() || response.status() != StatusCode::OK {
        // What went wrong here says nothing of the token: nobody may be told that he is not logged in.
        let error = error
            .filter(|error| {
                error.status() == StatusCode::UNAUTHORIZED || error.retry_after().is_some()
            })
            .unwrap_or(ApiError::DependencyUnavailable);
        response = error.status().into_response();
        error.put_headers(response.headers_mut());
    }
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    // Said in any case, since the server would leave it out in the answer to HEAD.
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_never_short_and_never_zero() {
        let seconds = |millis| {
            ApiError::Overloaded {
                retry_after: Duration::from_millis(millis),
            }
            .retry_after()
        };
        assert_eq!(seconds(0), Some(1));
        assert_eq!(seconds(1000), Some(1));
        assert_eq!(seconds(1001), Some(2));
        assert_eq!(
            ApiError::DependencyUnavailable.retry_after(),
            Some(DEPENDENCY_RETRY_AFTER)
        );
        assert_eq!(ApiError::InvalidCredentials.retry_after(), None);
    }

    #[test]
    fn a_gateway_is_told_nothing_but_what_it_understands() {
        let failures = [
            (ApiError::MissingToken, 401),
            (ApiError::InvalidToken, 401),
            (ApiError::DependencyUnavailable, 503),
            (
                ApiError::Overloaded {
                    retry_after: Duration::from_secs(7),
                },
                503,
            ),
            (ApiError::Internal, 503),
            (ApiError::RequestTimeout, 503),
            (ApiError::NotFound, 503),
            (ApiError::MethodNotAllowed, 503),
            (ApiError::PayloadTooLarge, 503),
            (ApiError::MalformedBody(String::new()), 503),
        ];
        for (error, status) in failures {
            let mut response = error.clone().into_response();
            response
                .headers_mut()
                .insert("x-user-id", HeaderValue::from(1));
            let response = render(response, "id", Dialect::Bare);
            assert_eq!(response.status(), status, "{error:?}");
            let headers = response.headers();
            assert_eq!(headers[CONTENT_LENGTH], "0");
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert_eq!(headers.contains_key(WWW_AUTHENTICATE), status == 401);
            assert_eq!(headers.contains_key(RETRY_AFTER), status == 503);
            assert!(!headers.contains_key("x-user-id"), "{error:?}");
        }
        // What no handler of ours would answer.
        for status in [204, 301, 400, 403, 500] {
            let response = (StatusCode::from_u16(status).unwrap(), "text").into_response();
            let response = render(response, "id", Dialect::Bare);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[CONTENT_LENGTH], "0");
        }
        let response = render("text".into_response(), "id", Dialect::Bare);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_LENGTH], "0");
        assert!(!response.headers().contains_key(CONTENT_TYPE));
    }
}
