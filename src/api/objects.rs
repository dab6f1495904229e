//! The JSON objects that several routes answer with. The command line prints the same ones.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::tokens::Session;
use crate::store::users::User;

/// A user. Nothing of the password is in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserObject {
    /// From 1 upwards, never given twice.
    #[schema(example = 1)]
    id: i64,
    /// In the form in which names are compared.
    #[schema(example = "alice")]
    username: String,
    /// May manage other users.
    is_admin: bool,
    /// May not log in.
    disabled: bool,
    /// When the user was made.
    #[schema(format = DateTime, example = "2026-11-24T05:52:19Z")]
    created_at: String,
    /// When somebody last changed something. A login is no such change.
    #[schema(format = DateTime, example = "2026-11-24T05:52:19Z")]
    updated_at: String,
    /// The last login that succeeded.
    #[schema(required, format = DateTime, example = "2026-11-24T05:52:19Z")]
    last_login_at: Option<String>,
    /// When the password was last set.
    #[schema(required, format = DateTime, example = "2026-11-24T05:52:19Z")]
    password_changed_at: Option<String>,
}

impl From<&User> for UserObject {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            username: user.username.clone(),
            is_admin: user.is_admin,
            disabled: user.disabled_at.is_some(),
            created_at: rfc3339(&user.created_at),
            updated_at: rfc3339(&user.updated_at),
            last_login_at: user.last_login_at.as_ref().map(rfc3339),
            password_changed_at: user.password_changed_at.as_ref().map(rfc3339),
        }
    }
}

/// A living session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionObject {
    /// Names it. It is no secret: the token can't be found from it.
    #[schema(example = "1.6y0T3mDkT5iB8vLQxGm2Aw")]
    id: String,
    /// When the login was.
    #[schema(format = DateTime, example = "2026-11-24T05:52:19Z")]
    created_at: String,
    /// When it ends at the latest.
    #[schema(format = DateTime, example = "2026-11-25T05:52:19Z")]
    expires_at: String,
    /// When the token was last checked, to the minute.
    #[schema(format = DateTime, example = "2026-11-24T06:10:00Z")]
    last_seen_at: String,
    /// The address that the login came from; `null` if it is not known.
    #[schema(required, value_type = Option<String>, example = "192.0.2.1")]
    ip: Option<IpAddr>,
    /// What the client said that it is, cut to 256 characters; `null` if it said nothing.
    #[schema(required, example = "curl/8.5.0")]
    user_agent: Option<String>,
}

impl From<&Session> for SessionObject {
    fn from(session: &Session) -> Self {
        let user_agent = session.device.user_agent();
        Self {
            id: session.id.to_string(),
            created_at: rfc3339(&session.created_at),
            expires_at: rfc3339(&session.expires_at),
            last_seen_at: rfc3339(&session.last_seen_at),
            ip: session.device.address(),
            user_agent: (!user_agent.is_empty()).then(|| user_agent.to_owned()),
        }
    }
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is in it.
    pub(crate) items: Vec<T>,
    /// The `after` of the next part; `null` if this is the last one.
    #[schema(required)]
    pub(crate) next: Option<String>,
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
