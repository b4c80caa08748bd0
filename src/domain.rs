//! Types and rules of access to SuperOffice CRM Online. Pure: no I/O, no clock, no randomness.

mod access_token;
mod actor;
mod alarm;
mod api_host;
mod api_path;
mod application;
mod associate;
mod audit;
mod caller_id;
mod client_network;
mod consent;
mod credential_operation;
mod enrolment;
mod file_text;
mod filter;
mod grant;
mod localized;
mod name;
mod no_proxy;
mod normal_form;
mod obstacle;
mod order;
mod proxy_address;
mod public_address;
mod redirect_uris;
mod tenant;
mod ticket;
mod token_algorithm;
mod trusted_proxies;
mod user_context;

pub use self::{
    access_token::{AccessTokenError, access_token_tenant},
    actor::{Actor, ActorSelector, ActorSelectorError, AuditedActor, PersonSelector},
    alarm::AlarmLimit,
    api_host::{AllowedApiHosts, ApiUriError, WebApiUri},
    api_path::{ApiPath, ApiPathError, folded_path},
    application::{ApplicationFailure, ApplicationView, Environment, UnknownEnvironment},
    associate::{
        ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, Associate, AssociateId, AssociateName, AssociateRecord,
        AssociateSelector, AssociateType, Capabilities, DataWarning, Directory, License,
        ListedAssociate, LookupKey, Owner, Principal, Reference, Role, RoleType, UserGroup,
        is_same_name,
    },
    audit::{
        AUDIT_FIELDS, Aggregate, AuditChainReport, AuditDamage, AuditEvent, AuditFault,
        AuditFaultKind, AuditHash, AuditRecord, AuditRow, AuditRowView, AuditSignature, AuditText,
        AuditVerification, AuditedCaller, ChainLink, ChainPoint, ChainState, ChainVerifier,
        Decision, NO_HASH, SignedPoint, Statement, StoredPublicKey, TrustedKeys, UnreadableEvent,
        certificate_message,
    },
    caller_id::{
        ANONYMOUS, COMMAND_LINE_PREFIX, CallerRecord, claims_spiffe, is_caller_prefix,
        is_reserved_caller, is_trust_domain, starts_with_ignore_case, trust_domain,
    },
    client_network::{IPV6_SITE_BITS, NetworkCounter, NetworkSlot, client_network},
    consent::{
        ATTEMPT_LIFETIME, AttemptBinding, CONSENT_LIFETIME, Consent, ConsentAttempt, ConsentId,
        ConsentIdError, ConsentOutcome, is_current,
    },
    credential_operation::credential_operation,
    enrolment::{Labels, SystemUserToken},
    file_text::{NotUtf8, file_text, remove_byte_order_marks, trimmed, without_byte_order_mark},
    filter::{Field, FieldKind, Fields, Filter, FilterError, Pattern, Value},
    grant::{
        AccessToken, FailureStreak, GRANT_FIELDS, Grant, GrantEventKind, GrantFailure, GrantId,
        GrantName, GrantScope, GrantSelector, GrantState, ListedGrant, RefreshToken,
        VerifiedIdentity,
    },
    localized::Languages,
    name::{
        ApplicationId, ContextIdentifier, ListScope, NameError, TenantName, TenantSelector,
        application_name,
    },
    no_proxy::{InvalidNoProxy, NoProxy},
    normal_form::folded_name,
    obstacle::{Obstacle, Reason},
    order::{Order, OrderError},
    proxy_address::{InvalidProxyUri, ProxyAddress, ProxyUri, is_proxy_username},
    public_address::{InvalidNat64Prefix, Nat64Prefix, is_public_address},
    redirect_uris::{RedirectUris, ReturnPrefix, ReturnUriError},
    tenant::{ListedTenant, TENANT_FIELDS, Tenant, TenantState, TenantStatus, Usability},
    ticket::{
        CredentialId, SystemTicket, TICKET_LIFETIME, TicketError, ticket_lifetime_end,
        ticket_tenant,
    },
    token_algorithm::TokenAlgorithm,
    trusted_proxies::{IpNetwork, IpNetworkError, TrustedProxies},
    user_context::{ContextKind, Guidance, UserContext},
};
