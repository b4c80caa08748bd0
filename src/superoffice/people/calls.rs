//! Which calls tell of the people of a tenant (SUPEROFFICE.md 6). Everything that goes into them is spelled as in the
//! official API descriptions: `calls/tests.rs` holds it against extracts of them.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE},
};

use super::{
    ASSOCIATE_COLUMNS, Profile, ROLE_COLUMNS, associates::USERS, groups::GROUPS, read_associates,
    read_associates_by_id, read_principal, read_roles, read_user_groups, roles::ROLES,
};
use crate::{
    domain::{AssociateId, AssociateRecord, ContextIdentifier, Principal, Role, UserGroup},
    ports::{
        ASSOCIATES_A_PAGE, ApiCall, AssociatePage, MAX_ASSOCIATES_BY_ID, PeopleCalls, ReadRows,
        UpstreamError,
    },
    superoffice::principal::PRINCIPAL,
};

/// Implements [`PeopleCalls`] in the words of the Web API.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeopleQuestions;

impl PeopleCalls for PeopleQuestions {
    fn associates(&self, after: Option<AssociateId>) -> ApiCall<AssociatePage> {
        // Also for the first page: an archive without any restriction may answer with nothing.
        let filter = format!("associateDbId > {}", after.map_or(0, AssociateId::get));
        let query = archive(ASSOCIATE_COLUMNS, "associateDbId", &filter);
        get(USERS, &format!("/v1/User?{query}"), move |body| {
            read_associates(body, after, ASSOCIATES_A_PAGE)
        })
    }

    fn associate(&self, id: AssociateId) -> ApiCall<Option<AssociateRecord>> {
        let query = archive(ASSOCIATE_COLUMNS, "associateDbId", &one_of(&[id]));
        get(USERS, &format!("/v1/User?{query}"), move |body| {
            read_associates_by_id(body, &[id]).map(|found| found.into_iter().next())
        })
    }

    fn associates_by_id(&self, ids: &[AssociateId]) -> ApiCall<Vec<AssociateRecord>> {
        debug_assert!(ids.len() <= MAX_ASSOCIATES_BY_ID, "more than one call can ask for");
        // Many ids are longer than an address may be; this form of the same archive is made for that.
        let form = archive(ASSOCIATE_COLUMNS, "associateDbId", &one_of(ids));
        let asked = ids.to_vec();
        let mut call =
            get(USERS, "/v1/Archive/AllUsers", move |body| read_associates_by_id(body, &asked));
        call.method = Method::POST;
        let form_encoded = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(CONTENT_TYPE, form_encoded);
        call.body = Bytes::from(form);
        call
    }

    fn user_groups(&self) -> ApiCall<ReadRows<UserGroup>> {
        get(GROUPS, "/v1/MDOList/usergroupwithhistoryall?flat=true", read_user_groups)
    }

    fn roles(&self) -> ApiCall<ReadRows<Role>> {
        let query = archive(ROLE_COLUMNS, "roleId", "roleId > 0");
        get(ROLES, &format!("/v1/Role?{query}"), read_roles)
    }

    fn current_principal(&self, tenant: ContextIdentifier) -> ApiCall<Principal> {
        get(PRINCIPAL, "/v1/User/currentPrincipal", move |body| read_principal(body, tenant))
    }
}

fn get<T>(
    profile: Profile,
    path_and_query: &str,
    reader: impl Fn(&[u8]) -> Result<T, UpstreamError> + Send + Sync + 'static,
) -> ApiCall<T> {
    let mut headers = HeaderMap::new();
    // Without it HTML or XML may come.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Texts come as they are stored, with all their translations.
    headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static("*"));
    ApiCall {
        what: profile.what,
        method: Method::GET,
        path_and_query: path_and_query.to_owned(),
        headers,
        body: Bytes::new(),
        max_body_bytes: profile.max_body_bytes,
        reader: Box::new(reader),
    }
}

/// The options of an archive: rows in full, because in Slim ones a list column holds a name in some language.
fn archive(columns: &[&str], key: &str, filter: &str) -> String {
    let select = columns.join(",");
    // Nothing else in a filter of ours needs encoding: it holds numbers, and names of columns and operators.
    let filter = filter.replace(' ', "%20").replace('>', "%3E");
    format!("$mode=Full&$select={select}&$orderBy={key}&$top={ASSOCIATES_A_PAGE}&$filter={filter}")
}

fn one_of(ids: &[AssociateId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("associateDbId oneOf ({})", ids.join(","))
}

#[cfg(test)]
mod tests;
