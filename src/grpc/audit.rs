//! `AuditService`: lists audit events and verifies the chains.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    answer::rpc,
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{self, audit_service_server::AuditService},
    request::Checks,
};
use crate::{
    access::Gateway,
    broker::{AuditLog, AuditPage, AuditQuery},
    domain::{AUDIT_FIELDS, AuditDamage, AuditVerification, ListScope},
    ports::AuditPosition,
};

/// The full name of the service.
pub(super) const NAME: &str = pb::audit_service_server::SERVICE_NAME;

/// The handler of the service.
pub struct AuditHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Reads and verifies the audit trail.
    pub audit_log: AuditLog,
}

/// The content of a page token: the position of the last event that was read.
struct PageCursor(AuditPosition);

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuditPosition { time, chain, sequence } = &self.0;
        write!(f, "{} {sequence} {chain}", time.as_microsecond())
    }
}

impl FromStr for PageCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.splitn(3, ' ');
        let mut number = || words.next()?.parse::<i64>().ok();
        let (time, sequence) = (number().ok_or(())?, number().ok_or(())?);
        let time = Timestamp::from_microsecond(time).map_err(|_| ())?;
        let chain = words.next().ok_or(())?.into();
        Ok(Self(AuditPosition { time, chain, sequence }))
    }
}

impl AuditHandler {
    async fn list(
        &self,
        context: &CallContext,
        request: pb::ListAuditEventsRequest,
    ) -> Result<pb::ListAuditEventsResponse, Failure> {
        let (audit_log, page_tokens) = (&self.audit_log, &*self.common.page_tokens);
        let pb::ListAuditEventsRequest { parent, filter, page_size, page_token } = request;
        let query = format!("ListAuditEvents {:?} {parent:?} {filter:?}", context.caller().id());
        let mut checks = Checks::default();
        let scope = checks.list_scope("parent", &parent);
        let filter = checks.filter("filter", &filter, AUDIT_FIELDS);
        let limit = checks.page_size("page_size", page_size);
        let after = checks.page_token("page_token", &page_token, page_tokens, &query);
        let (Some(scope), Some(filter), Some(limit), Some(after)) = (scope, filter, limit, after)
        else {
            return Err(checks.into_failure());
        };
        let after = after.map(|PageCursor(position)| position);
        let audit_query = AuditQuery { filter, after, limit: limit as usize };
        let AuditPage { events, next } = match scope {
            ListScope::Gateway => {
                audit_log.list_all(&self.common.authorize(context, Gateway)?, &audit_query).await?
            }
            ListScope::Application(application) => {
                let authorized = self.common.authorize(context, application)?;
                audit_log.list_of_application(&authorized, &audit_query).await?
            }
        };
        let next = next.map(|position| PageCursor(position).to_string());
        Ok(pb::ListAuditEventsResponse {
            audit_events: events.iter().map(convert::audit_event).collect(),
            next_page_token: self.common.next_page_token(&query, next)?,
        })
    }

    async fn verify(
        &self,
        context: &CallContext,
        _: pb::VerifyAuditLogRequest,
    ) -> Result<pb::VerifyAuditLogResponse, Failure> {
        let authorized = self.common.authorize(context, Gateway)?;
        let AuditVerification { chains, damages } = self.audit_log.verify(&authorized).await?;
        Ok(pb::VerifyAuditLogResponse {
            chains: chains.iter().map(convert::audit_chain_report).collect(),
            damages: damages.into_iter().map(damage).collect(),
        })
    }
}

fn damage(AuditDamage { file, offset, problem }: AuditDamage) -> pb::AuditDamage {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    pb::AuditDamage { file, offset, problem: problem.to_owned() }
}

#[tonic::async_trait]
impl AuditService for AuditHandler {
    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Result<Response<pb::ListAuditEventsResponse>, Status> {
        rpc!(self.list, request)
    }

    async fn verify_audit_log(
        &self,
        request: Request<pb::VerifyAuditLogRequest>,
    ) -> Result<Response<pb::VerifyAuditLogResponse>, Status> {
        rpc!(self.verify, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_cursor_is_parsed_back_to_the_same_position() {
        for chain in ["cli", "serve-1", "", "with a space"] {
            let time = Timestamp::from_microsecond(-1_500_001).unwrap();
            let position = AuditPosition { time, chain: chain.into(), sequence: i64::MAX };
            let read: PageCursor = PageCursor(position.clone()).to_string().parse().unwrap();
            assert_eq!(read.0, position);
        }
        assert!("1 2".parse::<PageCursor>().is_err() && "".parse::<PageCursor>().is_err());
    }
}
