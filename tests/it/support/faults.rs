//! Faults that several tests inject.

use superoffice_sandbox::Fault;

/// Returns the faults of an identity token: one with each claim or signature forged. `context` is another tenant.
pub(crate) fn forged_id_tokens(context: &str) -> Vec<Fault> {
    vec![
        Fault::WrongContext { context: context.to_owned() },
        Fault::WrongSignature,
        Fault::ForeignKey,
        Fault::AlgNone,
        Fault::Hs256PublicKey,
        Fault::WrongIssuer,
        Fault::WrongAudience,
        Fault::ExpiredToken,
    ]
}
