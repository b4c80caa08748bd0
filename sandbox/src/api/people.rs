//! The Web API about people: users, groups, roles. What is open online to partner applications
//! is served, what is not answers 403.

mod archive;
mod associate;
mod columns;
mod filter;
mod language;
mod mdo;
mod query;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use self::archive::Provider;
use self::language::Language;
use self::query::Query;
use super::not_found;
use crate::answer::Answer;
use crate::endpoint::Endpoint;
use crate::world::Tenant;

/// Room for the ids of a hundred thousand associates.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What is asked for below `api/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    CurrentAssociate,
    Users,
    Roles,
    Archive(String),
    List(String),
    ListAgent,
    AssociateAgent(String),
    Restricted,
}

impl Route {
    /// The route of a path; `None` if nothing about people is there.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("api/v1/")?.split('/').collect();
        Some(match parts.as_slice() {
            ["User"] if method != Method::POST => Self::Users,
            ["Role"] if method != Method::POST => Self::Roles,
            ["User", "currentAssociate"] => Self::CurrentAssociate,
            // Open, and not simulated.
            ["User", "currentToken" | "CustomField"]
            | ["User", "CustomField", _]
            | ["User", _, "ForeignKey"] => return None,
            ["Archive", name] => Self::Archive((*name).to_owned()),
            ["MDOList", name] => Self::List((*name).to_owned()),
            ["Agents", "MDO", "GetList"] => Self::ListAgent,
            ["Agents", "Associate", name] => Self::AssociateAgent((*name).to_owned()),
            ["User" | "Role" | "Webhook", ..] | ["Agents", "User" | "Webhook", ..] => {
                Self::Restricted
            }
            _ => return None,
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Self::CurrentAssociate => Endpoint::CurrentAssociate,
            Self::Users => Endpoint::UserList,
            Self::Roles => Endpoint::RoleList,
            Self::Archive(_) => Endpoint::Archive,
            Self::List(_) | Self::ListAgent => Endpoint::MdoList,
            Self::AssociateAgent(_) => Endpoint::AssociateAgent,
            Self::Restricted => Endpoint::Restricted,
        }
    }
}

/// A request about people, read to its end.
pub(super) struct Asked {
    method: Method,
    path: String,
    query: String,
    body: Vec<u8>,
    language: Language,
}

impl Asked {
    pub(super) async fn read(request: Request<Incoming>, path: &str) -> Result<Self, Answer> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|_| Answer::empty(StatusCode::PAYLOAD_TOO_LARGE))?
            .to_bytes();
        Ok(Self {
            method: head.method,
            path: path.to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: body.to_vec(),
            language: Language::of(&head.headers),
        })
    }
}

/// Answers a call of an associate that was admitted. The address is that of the tenant. People
/// get the same as applications: no difference is documented.
pub(super) fn answer(
    (tenant, caller): (&Tenant, u32),
    route: &Route,
    asked: &Asked,
    address: &str,
) -> Answer {
    let answer = respond((tenant, caller), route, asked, address).unwrap_or_else(|answer| answer);
    let rewrites = tenant.oddities.rewrites.iter().filter(|rewrite| rewrite.path == asked.path);
    rewrites.fold(answer, |answer, rewrite| answer.rewritten(&rewrite.from, &rewrite.to))
}

fn respond(
    (tenant, caller): (&Tenant, u32),
    route: &Route,
    asked: &Asked,
    address: &str,
) -> Result<Answer, Answer> {
    let (get, post) = (asked.method == Method::GET, asked.method == Method::POST);
    let people = &*tenant.people;
    let language = &asked.language;
    let path = asked.path.strip_prefix("api/v1/").unwrap_or_default();
    Ok(match route {
        Route::Restricted if tenant.oddities.restricted_is_404 => not_found(&asked.path),
        Route::Restricted => Answer::empty(StatusCode::FORBIDDEN),
        // A GET of an agent returns help and runs nothing.
        Route::ListAgent | Route::AssociateAgent(_) if get => {
            Answer::html(StatusCode::OK, "Agent operation: use POST")
        }
        Route::ListAgent | Route::AssociateAgent(_) if !post => Answer::method_not_allowed("POST"),
        Route::ListAgent => match associate::read(&asked.body, "request") {
            Ok(request) => mdo::agent(people, &request, language),
            Err(parameter) => associate::malformed(tenant, parameter),
        },
        Route::AssociateAgent(operation) => {
            associate::agent(tenant, operation, &Query::read(&asked.query)?, &asked.body)
        }
        Route::Archive(name) if get || post => {
            let provider = Provider::named(name).ok_or_else(|| not_found(&asked.path))?;
            let form = String::from_utf8_lossy(&asked.body);
            let query = Query::read(if post { &form } else { &asked.query })?;
            archive::page(tenant, provider, &query, language, (address, path))?
        }
        _ if !get => Answer::method_not_allowed("GET"),
        Route::CurrentAssociate => associate::current(people, caller),
        Route::List(name) => mdo::list(people, name, &Query::read(&asked.query)?, language),
        Route::Users | Route::Roles | Route::Archive(_) => {
            let roles = *route == Route::Roles;
            let provider = if roles { Provider::Role } else { Provider::AllUsers };
            let query = Query::read(&asked.query)?;
            archive::page(tenant, provider, &query, language, (address, path))?
        }
    })
}
