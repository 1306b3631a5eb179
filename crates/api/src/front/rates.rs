//! Tells each answer how its caller's buckets of calls stand: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers). Refuses nobody.

use axum::response::Response;
use broker::{Broker, Principal, RateStanding};
use http::{HeaderName, HeaderValue};
use sessions::{UserId, WorkspaceId};

/// What is left: `"user";r=57;t=5`.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What there is: `"user";q=100;w=10`.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Room for both buckets in one header.
const HEADER_BYTES: usize = 64;

/// Whose buckets an answer tells of.
#[derive(Debug)]
pub(crate) struct Told {
    user: UserId,
    workspace: WorkspaceId,
}

/// How they stand.
pub(crate) type Standings = [Option<RateStanding>; 2];

impl Told {
    pub(crate) fn of(principal: &Principal) -> Self {
        Self {
            user: principal.user.clone(),
            workspace: principal.workspace.clone(),
        }
    }

    /// How they stand now, after the request.
    pub(crate) fn now(&self, broker: &Broker) -> Standings {
        broker.rate_standings(&self.user, &self.workspace)
    }
}

/// With both headers, where there is a bucket at all.
pub(crate) fn dressed(mut response: Response, standings: Option<Standings>) -> Response {
    let Some(standings) = standings else {
        return response;
    };
    let text = || String::with_capacity(HEADER_BYTES);
    let (mut policy, mut left) = (text(), text());
    for one in standings.into_iter().flatten() {
        let (quota, remaining) = (one.quota.into(), one.remaining.into());
        member(
            &mut policy,
            one.scope,
            [(";q=", quota), (";w=", one.window_s)],
        );
        member(
            &mut left,
            one.scope,
            [(";r=", remaining), (";t=", one.reset_s)],
        );
    }
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::try_from(text.as_str())) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// One bucket of a list of them. By hand, since every answer has four.
fn member(text: &mut String, scope: &str, parameters: [(&str, u64); 2]) {
    let mut digits = itoa::Buffer::new();
    text.push_str(if text.is_empty() { "\"" } else { ", \"" });
    text.push_str(scope);
    text.push('"');
    for (name, value) in parameters {
        text.push_str(name);
        text.push_str(digits.format(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_headers_name_each_bucket_and_nothing_is_said_without_one() {
        let one = |scope, remaining| {
            Some(RateStanding {
                scope,
                quota: 100,
                window_s: 10,
                remaining,
                reset_s: 5,
            })
        };
        let standings = [one("user", 57), one("workspace", 3)];
        let answer = dressed(Response::default(), Some(standings));
        assert_eq!(
            answer.headers()[RATE_LIMIT_POLICY],
            r#""user";q=100;w=10, "workspace";q=100;w=10"#
        );
        assert_eq!(
            answer.headers()[RATE_LIMIT],
            r#""user";r=57;t=5, "workspace";r=3;t=5"#
        );
        let answer = dressed(Response::default(), Some([None, None]));
        assert!(answer.headers().is_empty());
    }
}
