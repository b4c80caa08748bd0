//! The fields of audit events for filters.

use super::AuditEvent;
use crate::domain::filter::{Field, FieldKind, Fields, Value};

/// The fields that audit events can be filtered on.
pub const AUDIT_FIELDS: &[Field] = &[
    Field { name: "caller", kind: FieldKind::Text },
    Field { name: "action", kind: FieldKind::Text },
    Field { name: "resource", kind: FieldKind::Text },
    Field { name: "decision", kind: FieldKind::Enum(&["ALLOWED", "DENIED"]) },
    Field { name: "code", kind: FieldKind::Int },
    Field { name: "time", kind: FieldKind::Time },
    Field { name: "credential_id", kind: FieldKind::Text },
    Field { name: "request_id", kind: FieldKind::Text },
    Field { name: "acting_as", kind: FieldKind::Text },
    Field { name: "method", kind: FieldKind::Text },
    Field { name: "path", kind: FieldKind::Text },
    Field { name: "resources", kind: FieldKind::Text },
];

impl Fields for AuditEvent {
    fn get(&self, field: &str) -> Value<'_> {
        let record = &self.record;
        let text = match field {
            "caller" => &record.caller,
            "action" => &record.action,
            "resource" => &record.resource,
            "decision" => return Value::Text(record.decision.as_str().into()),
            "code" => return Value::Int(record.code.into()),
            "time" => return Value::Time(self.time),
            "credential_id" => &record.credential_id,
            "request_id" => &record.request_id,
            "acting_as" => &record.acting_as,
            "method" => &record.method,
            "path" => &record.path,
            "resources" => return Value::Text(record.resources().into()),
            _ => return Value::Absent,
        };
        Value::Text((&**text).into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::domain::{Aggregate, AuditRecord, Decision, Filter, NO_HASH};

    #[test]
    fn filters_on_every_field() {
        let event = AuditEvent {
            chain: "cli".into(),
            sequence: 1,
            time: Timestamp::from_second(1_800_000_000).unwrap(),
            record: AuditRecord {
                caller: "spiffe://example.com/reports".into(),
                resource: "applications/a/tenants/Cust1".into(),
                acting_as: "system".into(),
                code: 7,
                credential_id: "t-1".into(),
                request_id: "r-1".into(),
                method: "GET".into(),
                path: "/api/v1/Contact/1".into(),
                aggregate: Some(Arc::new(Aggregate {
                    count: 2,
                    last_time: Timestamp::UNIX_EPOCH,
                    resources: ["Cust1", "Cust2"]
                        .map(|tenant| format!("applications/a/tenants/{tenant}").into())
                        .into(),
                    resource_count: 2,
                })),
                ..AuditRecord::new("issueSystemTicket", Decision::Denied)
            },
            links: Vec::new(),
            previous_hash: NO_HASH,
            hash: NO_HASH,
        };
        for (text, wanted) in [
            ("caller = spiffe://example.com/* AND decision = DENIED AND code = 7", true),
            ("resource = \"applications/a/*\" time >= 2027-01-15T08:00:00Z", true),
            ("acting_as=system credential_id=t-1 request_id=r-1 action:Ticket", true),
            ("reports", true),
            ("method = GET AND path = \"/api/v1/Contact/*\"", true),
            ("resources:tenants/Cust2", true),
            ("resources:tenants/Cust3", false),
            ("decision = ALLOWED OR code < 7", false),
            ("time > \"2027-01-15T08:00:00Z\"", false),
        ] {
            let filter = Filter::parse(text, AUDIT_FIELDS).unwrap();
            assert_eq!(filter.matches(&event), wanted, "{text}");
        }
        for field in AUDIT_FIELDS {
            assert_ne!(event.get(field.name), Value::Absent, "{}", field.name);
        }
    }
}
