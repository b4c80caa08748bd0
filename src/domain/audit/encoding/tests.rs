use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = AuditText> {
    // Short texts of few letters, to find texts that run into each other.
    prop_oneof!["[ab]{0,3}".prop_map(AuditText::from), "\\PC{0,200}".prop_map(AuditText::from),]
}

fn hash() -> impl Strategy<Value = AuditHash> {
    prop_oneof![Just([0; 32]), any::<AuditHash>()]
}

fn record() -> impl Strategy<Value = AuditRecord> {
    let texts = proptest::collection::vec(text(), 14);
    let policies = proptest::collection::vec("[ab]{0,2}", 0..4);
    let reason = proptest::option::of(proptest::sample::select(Reason::ALL));
    let aggregate = proptest::option::of(aggregate());
    (texts, policies, any::<bool>(), any::<i32>(), reason, aggregate).prop_map(
        |(texts, policies, allowed, code, error_reason, aggregate)| AuditRecord {
            caller: texts[0].clone(),
            caller_method: texts[1].clone(),
            caller_issuer: texts[2].clone(),
            action: texts[3].clone(),
            resource: texts[4].clone(),
            acting_as: texts[5].clone(),
            decision: if allowed { Decision::Allowed } else { Decision::Denied },
            policy_ids: policies.into_iter().map(Arc::from).collect(),
            code,
            error_reason,
            unknown_reason: if error_reason.is_none() { texts[11].clone() } else { "".into() },
            reason: texts[6].clone(),
            credential_id: texts[7].clone(),
            request_id: texts[8].clone(),
            trace_id: texts[9].clone(),
            client_address: texts[10].clone(),
            method: texts[12].clone(),
            path: texts[13].clone(),
            aggregate: aggregate.map(Arc::new),
        },
    )
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    let resources = proptest::collection::vec(text(), 0..4);
    (1..u64::MAX, time(), resources, any::<u64>()).prop_map(
        |(count, last_time, resources, resource_count)| Aggregate {
            count,
            last_time,
            resources,
            resource_count,
        },
    )
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_000_000_000_000_000).prop_map(|time| Timestamp::from_microsecond(time).unwrap())
}

fn event() -> impl Strategy<Value = AuditEvent> {
    let link = ("[ab]{0,2}", any::<i64>(), hash()).prop_map(|(chain, sequence, hash)| ChainLink {
        chain: chain.into(),
        sequence,
        hash,
    });
    let links = proptest::collection::vec(link, 0..3);
    (("[ab]{0,2}", 0_i64..3, time()), record(), links, hash()).prop_map(
        |((chain, sequence, time), record, links, previous_hash)| AuditEvent {
            chain: chain.into(),
            sequence,
            time,
            record,
            links,
            previous_hash,
            hash: [7; 32],
        },
    )
}

fn row(event: &AuditEvent) -> AuditRow {
    AuditRow { sequence: event.sequence, time: event.time, hash: event.hash, body: event.body() }
}

fn hashed(chain: &str, body: &[u8]) -> Vec<u8> {
    [&hashed_prefix(chain)[..], body].concat()
}

proptest! {
    #[test]
    fn decoding_returns_what_was_encoded(event in event()) {
        let place = read_place(&event.body()).unwrap();
        prop_assert_eq!((place.sequence, place.time), (event.sequence, event.time));
        prop_assert_eq!((place.previous_hash, &place.links), (event.previous_hash, &event.links));
        prop_assert_eq!(AuditEvent::read(&event.chain, &row(&event)), Ok(event));
    }

    #[test]
    fn different_events_have_different_encodings(one in event(), other in event()) {
        let hashed = |event: &AuditEvent| hashed(&event.chain, &event.body());
        prop_assert_eq!(one == other, hashed(&one) == hashed(&other));
    }

    #[test]
    fn each_event_has_exactly_one_encoding(
        event in event(), position in any::<proptest::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut altered = row(&event);
        let position = position.index(altered.body.len());
        altered.body[position] = byte;
        if let Ok(read) = AuditEvent::read(&event.chain, &altered) {
            prop_assert_eq!(read.body(), altered.body);
        }
    }

    #[test]
    fn decoding_random_bytes_never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let row = AuditRow { sequence: 1, time: Timestamp::UNIX_EPOCH, hash: [0; 32], body };
        let _ = AuditEvent::read(&"chain".into(), &row);
        let _ = read_place(&row.body);
    }
}

#[test]
fn numbers_have_one_encoding() {
    for number in [0, 1, 127, 128, 300, 16_383, 16_384, u64::MAX / 2, u64::MAX] {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        assert_eq!(Reader(&bytes).number(), Some(number));
    }
    for longer in [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff; 10], &[0xff; 11], &[0x80]] {
        assert_eq!(Reader(longer).number(), None, "{longer:?}");
    }
}

#[test]
fn messages_for_head_and_checkpoint_differ() {
    let point =
        ChainPoint { chain: "cli".into(), sequence: 7, hash: [1; 32], time: Timestamp::UNIX_EPOCH };
    let head = point.message(Statement::Head, "k-1");
    assert_ne!(head, point.message(Statement::Checkpoint, "k-1"));
    assert_ne!(head, point.message(Statement::Head, "k-2"));
    assert!(!hashed("cli", b"").starts_with(&head));
}
