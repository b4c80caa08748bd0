//! The Web API about people: users, groups, roles. Operations that are not open to online partner
//! applications answer 403.

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
use self::query::ArchiveQuery;
use super::not_found;
use crate::answer::Answer;
use crate::endpoint::Endpoint;
use crate::world::Tenant;

/// The maximum body size: room for the ids of a hundred thousand associates.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The routes below `api/v1`.
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
    /// Returns the route of a path; `None` if it is not about people.
    pub(super) fn parse(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix("api/v1/")?.split('/').collect();
        Some(match parts.as_slice() {
            ["User"] if method != Method::POST => Self::Users,
            ["Role"] if method != Method::POST => Self::Roles,
            ["User", "currentAssociate"] => Self::CurrentAssociate,
            // Open to partner applications, but not simulated.
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

/// A request about people with its whole body.
pub(super) struct PeopleRequest {
    method: Method,
    path: String,
    query: String,
    body: Vec<u8>,
    language: Language,
}

impl PeopleRequest {
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

/// Answers a call of an authenticated associate. `address` is that of the tenant. People get the
/// same data as applications, because no difference is documented.
pub(super) fn answer(
    (tenant, caller): (&Tenant, u32),
    route: &Route,
    request: &PeopleRequest,
    address: &str,
) -> Answer {
    let answer = respond((tenant, caller), route, request, address).unwrap_or_else(|answer| answer);
    let rewrites = tenant.oddities.rewrites.iter().filter(|rewrite| rewrite.path == request.path);
    rewrites.fold(answer, |answer, rewrite| answer.replace_text(&rewrite.from, &rewrite.to))
}

fn respond(
    (tenant, caller): (&Tenant, u32),
    route: &Route,
    request: &PeopleRequest,
    address: &str,
) -> Result<Answer, Answer> {
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    let people = &*tenant.people;
    let language = &request.language;
    let path = request.path.strip_prefix("api/v1/").unwrap_or_default();
    Ok(match route {
        Route::Restricted if tenant.oddities.restricted_is_404 => not_found(&request.path),
        Route::Restricted => Answer::empty(StatusCode::FORBIDDEN),
        // A GET of an agent returns help and executes nothing.
        Route::ListAgent | Route::AssociateAgent(_) if get => {
            Answer::html(StatusCode::OK, "Agent operation: use POST")
        }
        Route::ListAgent | Route::AssociateAgent(_) if !post => Answer::method_not_allowed("POST"),
        Route::ListAgent => match associate::read(&request.body, "request") {
            Ok(request) => mdo::agent(people, &request, language),
            Err(parameter) => associate::malformed(tenant, parameter),
        },
        Route::AssociateAgent(operation) => {
            associate::agent(tenant, operation, &ArchiveQuery::read(&request.query)?, &request.body)
        }
        Route::Archive(name) if get || post => {
            let provider = Provider::named(name).ok_or_else(|| not_found(&request.path))?;
            let form = String::from_utf8_lossy(&request.body);
            let query = ArchiveQuery::read(if post { &form } else { &request.query })?;
            archive::page(tenant, provider, &query, language, (address, path))?
        }
        _ if !get => Answer::method_not_allowed("GET"),
        Route::CurrentAssociate => associate::current(people, caller),
        Route::List(name) => {
            mdo::list(people, name, &ArchiveQuery::read(&request.query)?, language)
        }
        Route::Users | Route::Roles | Route::Archive(_) => {
            let roles = *route == Route::Roles;
            let provider = if roles { Provider::Role } else { Provider::AllUsers };
            let query = ArchiveQuery::read(&request.query)?;
            archive::page(tenant, provider, &query, language, (address, path))?
        }
    })
}
