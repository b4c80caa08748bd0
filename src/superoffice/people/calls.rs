//! The Web API requests that read the people of a tenant. All names are spelled as in the official API descriptions;
//! `calls/tests.rs` compares them with extracts.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE},
};

use super::{
    ASSOCIATE_COLUMNS, ROLE_COLUMNS, RequestLimits, associates::USERS, groups::GROUPS,
    read_associates, read_associates_by_id, read_principal, read_roles, read_user_groups,
    roles::ROLES,
};
use crate::{
    domain::{AssociateId, AssociateRecord, ContextIdentifier, Principal, Role, UserGroup},
    ports::{
        ASSOCIATES_PER_PAGE, ApiQuery, AssociatePage, AssociateQueries, MAX_ASSOCIATES_BY_ID,
        ParsedRows, UpstreamError,
    },
    superoffice::principal::PRINCIPAL,
};

/// Implements [`AssociateQueries`] with Web API requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeopleRequests;

impl AssociateQueries for PeopleRequests {
    fn associates(&self, after: Option<AssociateId>) -> ApiQuery<AssociatePage> {
        // The first page has a filter too: an archive without any restriction may return nothing.
        let filter = format!("associateDbId > {}", after.map_or(0, AssociateId::get));
        let query = archive_query(ASSOCIATE_COLUMNS, "associateDbId", &filter);
        get(USERS, &format!("/v1/User?{query}"), move |body| {
            read_associates(body, after, ASSOCIATES_PER_PAGE)
        })
    }

    fn associate(&self, id: AssociateId) -> ApiQuery<Option<AssociateRecord>> {
        let query = archive_query(ASSOCIATE_COLUMNS, "associateDbId", &one_of_filter(&[id]));
        get(USERS, &format!("/v1/User?{query}"), move |body| {
            read_associates_by_id(body, &[id]).map(|found| found.into_iter().next())
        })
    }

    fn associates_by_id(&self, ids: &[AssociateId]) -> ApiQuery<Vec<AssociateRecord>> {
        debug_assert!(ids.len() <= MAX_ASSOCIATES_BY_ID, "too many ids for one call");
        // Many ids do not fit in a URI. This endpoint takes the same query as a form.
        let form = archive_query(ASSOCIATE_COLUMNS, "associateDbId", &one_of_filter(ids));
        let asked = ids.to_vec();
        let mut call =
            get(USERS, "/v1/Archive/AllUsers", move |body| read_associates_by_id(body, &asked));
        call.method = Method::POST;
        let form_encoded = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(CONTENT_TYPE, form_encoded);
        call.body = Bytes::from(form);
        call
    }

    fn user_groups(&self) -> ApiQuery<ParsedRows<UserGroup>> {
        get(GROUPS, "/v1/MDOList/usergroupwithhistoryall?flat=true", read_user_groups)
    }

    fn roles(&self) -> ApiQuery<ParsedRows<Role>> {
        let query = archive_query(ROLE_COLUMNS, "roleId", "roleId > 0");
        get(ROLES, &format!("/v1/Role?{query}"), read_roles)
    }

    fn current_principal(&self, tenant: ContextIdentifier) -> ApiQuery<Principal> {
        get(PRINCIPAL, "/v1/User/currentPrincipal", move |body| read_principal(body, tenant))
    }
}

fn get<T>(
    limits: RequestLimits,
    path_and_query: &str,
    reader: impl Fn(&[u8]) -> Result<T, UpstreamError> + Send + Sync + 'static,
) -> ApiQuery<T> {
    let mut headers = HeaderMap::new();
    // Without this header the response may be HTML or XML.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Returns texts as they are stored, with all their translations.
    headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("*"));
    ApiQuery {
        what: limits.name,
        method: Method::GET,
        path_and_query: path_and_query.to_owned(),
        headers,
        body: Bytes::new(),
        max_body_bytes: limits.max_body_bytes,
        parser: Box::new(reader),
    }
}

/// Returns the query of an archive request. In Slim mode a list column holds a name in some language, so it is Full.
fn archive_query(columns: &[&str], key: &str, filter: &str) -> String {
    let select = columns.join(",");
    // Filters contain only numbers, column names and operators, so nothing else needs encoding.
    let filter = filter.replace(' ', "%20").replace('>', "%3E");
    format!(
        "$mode=Full&$select={select}&$orderBy={key}&$top={ASSOCIATES_PER_PAGE}&$filter={filter}"
    )
}

fn one_of_filter(ids: &[AssociateId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("associateDbId oneOf ({})", ids.join(","))
}

#[cfg(test)]
mod tests;
