//! Builds caller authentication and authorization from `[callers]`, `[policy]` and `[quotas]`, and keeps it up to date.

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::join_all;
use jiff::SignedDuration;

use super::{policy::PolicyFiles, storage::config_problem};
use crate::{
    access::{
        Access, Authenticator, CertificateRules, InspectedKeys, IssuerKeys, IssuerRules, NameKind,
        NamePattern, NoUsableKeys, QuotaRules, Rate, Rules,
    },
    audit::Trail,
    broker::Runtime,
    config::{CertificateIdentity, Config, ConfigError, JwtIssuer, Mtls, Quota, Quotas},
    crypto::{KeyedDigest, TokenSignatures},
    issuers::{IssuerEndpoint, KeyEndpoint, KeyFile},
    outbound::Network,
    ports::{Clock, JwksSource, Reloadable},
};

/// Authentication and authorization of callers, and the task that keeps them up to date.
pub(super) struct AccessSetup {
    pub(super) access: Access,
    maintenance: AccessMaintenance,
}

/// The task that keeps keys, policy and certificate authorities up to date while callers are served.
pub(super) struct AccessMaintenance {
    network: Network,
    issuers: Vec<Arc<IssuerKeys>>,
    policy: Option<Arc<PolicyFiles>>,
}

impl AccessSetup {
    /// Reads the policy. Does not fetch keys: the gateway must start even if an issuer is down.
    pub(super) fn new(
        config: &Config,
        runtime: &Runtime,
        network: Network,
    ) -> Result<Self, ConfigError> {
        let clock = Arc::clone(&runtime.clock);
        let quotas = quota_rules(&config.quotas);
        let policy = PolicyFiles::load(config)?.map(Arc::new);
        let policies = policy.as_ref().map(|policy| policy.policies());
        let mut maintenance = AccessMaintenance { network, issuers: Vec::new(), policy };
        let access = if config.callers.insecure_anonymous {
            let rules = policies.map_or(Rules::PermitAll, Rules::Policies);
            Access::insecure_anonymous(rules, quotas, clock)
        } else {
            let issuers = issuers(config, runtime, &maintenance.network);
            maintenance.issuers = issuers.iter().map(|(_, keys)| Arc::clone(keys)).collect();
            let digest = KeyedDigest::new();
            let digest =
                digest.map_err(|error| config_problem(config, "callers", error.to_string()))?;
            let mtls = certificate_rules(&config.callers.mtls);
            let signatures = Arc::new(TokenSignatures);
            let callers = Authenticator::new(issuers, mtls, signatures, Arc::new(digest));
            let missing = || config_problem(config, "policy.file", "is missing".to_owned());
            let policies = policies.ok_or_else(missing)?;
            Access::new(callers, policies, quotas, clock)
        };
        Ok(Self { access, maintenance })
    }

    pub(super) fn into_parts(self) -> (Access, AccessMaintenance) {
        (self.access, self.maintenance)
    }
}

impl AccessMaintenance {
    /// Returns the parts that can be reloaded.
    pub(super) fn reloadables(&self) -> Vec<Arc<dyn Reloadable>> {
        let policy = self.policy.iter().map(|policy| Arc::clone(policy) as Arc<dyn Reloadable>);
        let issuers = self.issuers.iter().map(|keys| Arc::clone(keys) as _);
        let network = Arc::new(self.network.clone());
        // The network first, because issuers are reloaded over it.
        [network as Arc<dyn Reloadable>].into_iter().chain(policy).chain(issuers).collect()
    }

    /// Writes the loaded policy, and each later change, to the audit trail.
    pub(super) fn attach_trail(&self, trail: &Arc<Trail>) {
        if let Some(policy) = &self.policy {
            policy.attach_trail(trail);
        }
    }

    /// Keeps keys, policy and certificate authorities up to date until the future is dropped.
    pub(super) async fn run(self, clock: Arc<dyn Clock>) {
        let keys = join_all(self.issuers.iter().map(|keys| keys.run_refresh()));
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
    runtime: &Runtime,
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
        let Runtime { clock, random, .. } = runtime.clone();
        let name = issuer.issuer.clone();
        let (source, algorithms) = (source(issuer, network), issuer.algorithms.clone());
        let keys = IssuerKeys::new(name, source, issuer.max_key_age, algorithms, clock, random);
        (rules, Arc::new(keys))
    };
    config.callers.jwt.iter().map(one).collect()
}

/// Returns the rules by which client certificates name callers; `None` if mTLS is off.
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

/// Reads the keys of an issuer the same way as for calls.
pub(crate) async fn inspect_keys(
    issuer: &JwtIssuer,
    network: &Network,
) -> Result<InspectedKeys, NoUsableKeys> {
    let fetched = source(issuer, network).fetch().await;
    let body = fetched.map_err(|error| NoUsableKeys::Unreadable(error.to_string()))?;
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
