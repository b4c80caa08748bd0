use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, NameConstraints, PKCS_ECDSA_P384_SHA384, SanType, SignatureAlgorithm,
};
use rustls::{RootCertStore, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier};

use super::*;

/// The maximum processor time for any chain.
const MOST: Duration = Duration::from_millis(20);

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    } else {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    }
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// Returns a self-signed CA.
fn root(name: &str, algorithm: &'static SignatureAlgorithm) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    CertifiedIssuer::self_signed(params(name, true), key).unwrap()
}

/// Returns a certificate of `name` that names `by` as its issuer, signed with an unrelated key.
fn forged(name: &str, by: &str, authority: bool) -> CertificateDer<'static> {
    let stranger = CertifiedIssuer::self_signed(params(by, true), key()).unwrap();
    let issuer: &Issuer<'_, KeyPair> = &stranger;
    params(name, authority).signed_by(&key(), issuer).unwrap().der().clone()
}

fn verifier(roots: &[&CertifiedIssuer<'_, KeyPair>]) -> ChainLimitVerifier {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der().clone()).unwrap();
    }
    let provider = Arc::new(default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    ChainLimitVerifier(inner.build().unwrap())
}

/// Returns the processor time of this thread. Wall-clock time would include tests that run in parallel.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Verifies a chain three times. Returns the result and the shortest processor time.
fn timed(
    verifier: &ChainLimitVerifier,
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> (Result<(), String>, Duration) {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
    let runs = (0..3).map(|_| {
        let begin = processor_time();
        let outcome = verifier.verify_client_cert(own, others, now);
        (
            outcome.map(drop).map_err(|error| error.to_string()),
            processor_time().saturating_sub(begin),
        )
    });
    runs.min_by_key(|(_, taken)| *taken).unwrap()
}

#[test]
fn rejects_chains_over_the_limits_before_checking_signatures() {
    let own = forged("client", "a", false);
    let named = |count: usize| -> Vec<_> {
        (0..count).map(|n| forged(&format!("a{n}"), "b", true)).collect()
    };
    assert_eq!(check_chain(&own, &named(7)), Ok(()));
    assert_eq!(check_chain(&own, &named(8)), Err(ChainError::TooMany));
    let same = vec![forged("a", "a", true); 3];
    assert_eq!(check_chain(&own, &same[..2]), Ok(()));
    assert_eq!(check_chain(&own, &same), Err(ChainError::TooManySameSubject));
    let large = CertificateDer::from(vec![0; MAX_CHAIN_BYTES]);
    assert_eq!(check_chain(&own, &[large]), Err(ChainError::TooLarge));
    assert_eq!(check_chain(&CertificateDer::from(vec![0; 40_000]), &[]), Err(ChainError::TooLarge));
    let broken = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert_eq!(check_chain(&own, &[broken]), Err(ChainError::Unreadable));

    let root = root("a", &PKCS_ECDSA_P384_SHA384);
    let (refused, _) = timed(&verifier(&[&root]), &own, &vec![forged("a", "a", true); 91]);
    assert!(refused.unwrap_err().contains("more than 8 certificates"));
}

#[test]
fn accepts_two_intermediates_in_any_order_and_a_cross_signed_one() {
    let root = root("root", &PKCS_ECDSA_P384_SHA384);
    let upper = CertifiedIssuer::signed_by(params("upper", true), key(), &root).unwrap();
    let lower = CertifiedIssuer::signed_by(params("lower", true), key(), &upper).unwrap();
    let issuer: &Issuer<'_, KeyPair> = &lower;
    let own = params("client", false).signed_by(&key(), issuer).unwrap().der().clone();
    let cross = forged("upper", "old root", true);
    let verifier = verifier(&[&root]);
    for others in [
        vec![lower.der().clone(), upper.der().clone()],
        vec![upper.der().clone(), lower.der().clone()],
        vec![lower.der().clone(), cross, upper.der().clone(), root.der().clone()],
    ] {
        assert_eq!(timed(&verifier, &own, &others).0, Ok(()));
    }
    assert!(timed(&verifier, &own, &[lower.der().clone()]).0.is_err());
}

#[test]
fn verifies_any_chain_within_the_limits_in_twenty_milliseconds() {
    // Several CAs of one name, with a slow kind of key: each is tried at each step.
    let roots: Vec<_> = (0..3).map(|_| root("root", &PKCS_ECDSA_P384_SHA384)).collect();
    let by_name = verifier(&roots.iter().collect::<Vec<_>>());
    let twice = |names: &[(&str, &str)]| -> Vec<CertificateDer<'static>> {
        names
            .iter()
            .flat_map(|(name, by)| [forged(name, by, true), forged(name, by, true)])
            .collect()
    };
    let mut chains = vec![
        ("the name of the root", forged("client", "root", false), twice(&[("root", "root")])),
        (
            "pairs up to the root",
            forged("client", "a", false),
            [twice(&[("a", "b"), ("b", "c"), ("c", "root")]), vec![forged("d", "root", true)]]
                .concat(),
        ),
        (
            "pairs in a ring",
            forged("client", "a", false),
            twice(&[("a", "b"), ("b", "c"), ("c", "a")]),
        ),
    ];
    let mut wide = params("client", false);
    wide.subject_alt_names = (0..900)
        .map(|n| SanType::DnsName(format!("host{n}.example").try_into().unwrap()))
        .collect();
    let stranger = CertifiedIssuer::self_signed(params("root", true), key()).unwrap();
    let issuer: &Issuer<'_, KeyPair> = &stranger;
    let wide_der = wide.signed_by(&key(), issuer).unwrap().der().clone();
    chains.push(("many names", wide_der, vec![]));
    for (what, own, others) in &chains {
        let (outcome, taken) = timed(&by_name, own, others);
        assert!(outcome.is_err(), "{what}");
        assert!(taken < MOST, "{what}: {taken:?}");
    }

    // The client's CA constrains an intermediate CA with many names: every name is compared with each constraint.
    let subtrees = |from: usize| {
        (from..from + 450).map(|n| GeneralSubtree::DnsName(format!("x{n}.example"))).collect()
    };
    let mut constrained = params("constrained", true);
    constrained.name_constraints =
        Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: subtrees(0) });
    let constrained = CertifiedIssuer::signed_by(constrained, key(), &roots[0]).unwrap();
    let mut own = params("client", false);
    own.subject_alt_names = (0..450)
        .map(|n| SanType::DnsName(format!("host{n}.example").try_into().unwrap()))
        .collect();
    let issuer: &Issuer<'_, KeyPair> = &constrained;
    let own = own.signed_by(&key(), issuer).unwrap().der().clone();
    let refused = check_chain(&own, &[constrained.der().clone()]);
    assert_eq!(refused, Err(ChainError::TooManyNames));
    let (_, taken) = timed(&by_name, &own, &[constrained.der().clone()]);
    assert!(taken < MOST, "{taken:?}");
}
