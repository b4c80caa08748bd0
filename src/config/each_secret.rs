//! Reading secrets one by one, so that a problem with one does not hide the others.

use secrecy::SecretString;

use super::{
    Application, Config, Problem, Proxy, SecretSource, error::Problems, secret::SecretFormat,
};

/// One secret that the configuration names.
#[derive(Debug)]
pub struct ReadSecret {
    /// The location of the secret.
    pub source: SecretSource,
    /// Whether it is an RSA key, the current or the next one.
    pub is_private_key: bool,
    /// The secret, or the problem with its location.
    pub secret: Result<SecretString, Problem>,
    /// Warnings about settings that are valid but probably unintended.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads every secret that the configuration names.
    #[must_use]
    pub fn read_each_secret(&self) -> Vec<ReadSecret> {
        let password = self.store.password.iter().map(|source| read(source, SecretFormat::Line));
        let proxy = self.proxy.iter().filter_map(Proxy::password_source);
        let password = password.chain(proxy.map(|source| read(source, SecretFormat::Line)));
        password.chain(self.applications.iter().flat_map(Application::read_each_secret)).collect()
    }
}

impl Application {
    fn read_each_secret(&self) -> Vec<ReadSecret> {
        let sources = &self.secrets;
        let lines = [Some(&sources.client_secret), sources.next_client_secret.as_ref()];
        let keys = [Some(&sources.private_key), sources.next_private_key.as_ref()];
        let lines = lines.into_iter().chain([sources.webhook_secret.as_ref()]).flatten();
        lines
            .map(|source| read(source, SecretFormat::Line))
            .chain(keys.into_iter().flatten().map(|source| read(source, SecretFormat::Text)))
            .collect()
    }
}

fn read(source: &SecretSource, form: SecretFormat) -> ReadSecret {
    let mut problems = Problems::default();
    let secret = source.read(form, &mut problems);
    let problem = problems.errors.pop().unwrap_or_else(|| Problem {
        key: source.key().to_owned(),
        line: None,
        message: "cannot be read".to_owned(),
    });
    ReadSecret {
        source: source.clone(),
        is_private_key: form == SecretFormat::Text,
        secret: secret.ok_or(problem),
        warnings: problems.warnings,
    }
}
