//! From `[callers]`, `[policy]` and `[quotas]` to what lets callers in, and what keeps that up to date.

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::join_all;
use jiff::SignedDuration;

use super::{Surroundings, policy::PolicyFiles, storage::problem};
use crate::{
    access::{
        Access, CertificateRules, Identification, InspectedKeys, IssuerKeys, IssuerRules, NameKind,
        NamePattern, NoKeys, QuotaRules, Rate, Rules,
    },
    broker::Trail,
    config::{CertificateIdentity, Config, ConfigError, JwtIssuer, Mtls, Quota, Quotas},
    crypto::{KeyedDigest, TokenSignatures},
    issuers::{IssuerEndpoint, KeyEndpoint, KeyFile},
    outbound::Network,
    ports::{Clock, JwksSource, Reloadable},
};

/// What lets callers in, and the work that keeps it up to date.
pub(super) struct Doors {
    pub(super) access: Access,
    upkeep: Upkeep,
}

/// Runs as long as callers are let in.
pub(super) struct Upkeep {
    network: Network,
    issuers: Vec<Arc<IssuerKeys>>,
    policy: Option<Arc<PolicyFiles>>,
}

impl Doors {
    /// Reads the policy. Fetches nothing yet: an issuer that is down must not keep the gateway from starting.
    pub(super) fn new(
        config: &Config,
        surroundings: &Surroundings,
        network: Network,
    ) -> Result<Self, ConfigError> {
        let clock = Arc::clone(&surroundings.clock);
        let quotas = quota_rules(&config.quotas);
        let policy = PolicyFiles::load(config)?.map(Arc::new);
        let policies = policy.as_ref().map(|policy| policy.policies());
        let mut upkeep = Upkeep { network, issuers: Vec::new(), policy };
        let access = if config.callers.insecure_anonymous {
            let rules = policies.map_or(Rules::PermitAll, Rules::Policies);
            Access::insecure_anonymous(rules, quotas, clock)
        } else {
            let issuers = issuers(config, surroundings, &upkeep.network);
            upkeep.issuers = issuers.iter().map(|(_, keys)| Arc::clone(keys)).collect();
            let digest = KeyedDigest::new();
            let digest = digest.map_err(|error| problem(config, "callers", error.to_string()))?;
            let mtls = certificate_rules(&config.callers.mtls);
            let signatures = Arc::new(TokenSignatures);
            let callers = Identification::new(issuers, mtls, signatures, Arc::new(digest));
            let missing = || problem(config, "policy.file", "is missing".to_owned());
            let policies = policies.ok_or_else(missing)?;
            Access::new(callers, policies, quotas, clock)
        };
        Ok(Self { access, upkeep })
    }

    pub(super) fn open(self) -> (Access, Upkeep) {
        (self.access, self.upkeep)
    }
}

impl Upkeep {
    /// What can be read again when somebody asks for it.
    pub(super) fn reloadables(&self) -> Vec<Arc<dyn Reloadable>> {
        let policy = self.policy.iter().map(|policy| Arc::clone(policy) as Arc<dyn Reloadable>);
        let issuers = self.issuers.iter().map(|keys| Arc::clone(keys) as _);
        let network = Arc::new(self.network.clone());
        // Issuers are asked over the network as it is then.
        [network as Arc<dyn Reloadable>].into_iter().chain(policy).chain(issuers).collect()
    }

    /// Has what was loaded, and each change from now on, written to the audit trail.
    pub(super) fn tell(&self, trail: &Arc<Trail>) {
        if let Some(policy) = &self.policy {
            policy.tell(trail);
        }
    }

    /// Keeps keys, policy and certificate authorities up to date, until it is dropped.
    pub(super) async fn run(self, clock: Arc<dyn Clock>) {
        let keys = join_all(self.issuers.iter().map(|keys| keys.keep_fresh()));
        let policy = async {
            match &self.policy {
                Some(policy) => match policy.watch(&*clock).await {},
                None => std::future::pending().await,
            }
        };
        tokio::join!(keys, policy, self.network.watch(&*clock));
    }
}

fn issuers(
    config: &Config,
    surroundings: &Surroundings,
    network: &Network,
) -> Vec<(IssuerRules, Arc<IssuerKeys>)> {
    let one = |issuer: &JwtIssuer| {
        let rules = IssuerRules {
            issuer: issuer.issuer.clone(),
            audiences: issuer.all_audiences().map(str::to_owned).collect(),
            caller_claim: issuer.caller_claim.clone(),
            algorithms: issuer.algorithms.clone(),
            leeway: issuer.leeway.try_into().unwrap_or(SignedDuration::MAX),
            caller_prefix: issuer.caller_prefix.clone(),
            spiffe_trust_domain: issuer.spiffe_trust_domain.clone(),
            max_lifetime: issuer.max_lifetime,
            max_key_age: issuer.max_key_age,
        };
        let Surroundings { clock, random, .. } = surroundings.clone();
        let name = issuer.issuer.clone();
        let (source, algorithms) = (source(issuer, network), issuer.algorithms.clone());
        let keys = IssuerKeys::new(name, source, issuer.max_key_age, algorithms, clock, random);
        (rules, Arc::new(keys))
    };
    config.callers.jwt.iter().map(one).collect()
}

/// How client certificates name callers, if they do.
fn certificate_rules(mtls: &Mtls) -> Option<CertificateRules> {
    let kind = |identity| match identity {
        CertificateIdentity::Uri => NameKind::Uri,
        CertificateIdentity::Dns => NameKind::Dns,
        CertificateIdentity::CommonName => NameKind::CommonName,
    };
    mtls.enabled.then(|| CertificateRules {
        identity: mtls.identity.map(kind),
        pattern: mtls.pattern.clone().map(NamePattern::new),
    })
}

fn source(issuer: &JwtIssuer, network: &Network) -> Arc<dyn JwksSource> {
    if let Some(file) = &issuer.jwks_file {
        return Arc::new(KeyFile::new(file.clone()));
    }
    let endpoint = IssuerEndpoint {
        issuer: issuer.issuer.clone(),
        jwks_uri: issuer.jwks_uri.clone(),
        ca_file: issuer.ca_file.clone(),
        bearer_token_file: issuer.bearer_token_file.clone(),
    };
    Arc::new(KeyEndpoint::new(endpoint, network.clone()))
}

/// Reads the keys of an issuer as they are read for calls.
pub(crate) async fn inspect_keys(
    issuer: &JwtIssuer,
    network: &Network,
) -> Result<InspectedKeys, NoKeys> {
    let fetched = source(issuer, network).fetch().await;
    let body = fetched.map_err(|error| NoKeys::Unreadable(error.to_string()))?;
    IssuerKeys::inspect(&body, &issuer.algorithms)
}

fn quota_rules(quotas: &Quotas) -> QuotaRules {
    let rate = |quota: Quota| {
        let per_second = NonZeroU32::new(quota.per_second)?;
        let burst = quota.burst.and_then(NonZeroU32::new).unwrap_or(per_second);
        Some(Rate { per_second, burst })
    };
    QuotaRules {
        per_caller: quotas.per_caller.and_then(rate),
        per_caller_and_tenant: quotas.per_caller_and_tenant.and_then(rate),
        refused_per_source: rate(quotas.refused_per_source),
    }
}
