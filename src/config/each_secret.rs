//! Reading secrets one by one, so that what is wrong with one hides no other.

use secrecy::SecretString;

use super::{Application, Config, Problem, Proxy, SecretSource, error::Problems, secret::Form};

/// One secret that the configuration names.
#[derive(Debug)]
pub struct ReadSecret {
    /// Where it is.
    pub source: SecretSource,
    /// Whether it is an RSA key, the present or the next one.
    pub is_private_key: bool,
    /// The secret, or what is wrong with the place.
    pub secret: Result<SecretString, Problem>,
    /// What works but is probably not meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads every secret that it names.
    #[must_use]
    pub fn read_each_secret(&self) -> Vec<ReadSecret> {
        let password = self.store.password.iter().map(|source| read(source, Form::Line));
        let proxy = self.proxy.iter().filter_map(Proxy::password_source);
        let password = password.chain(proxy.map(|source| read(source, Form::Line)));
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
            .map(|source| read(source, Form::Line))
            .chain(keys.into_iter().flatten().map(|source| read(source, Form::Text)))
            .collect()
    }
}

fn read(source: &SecretSource, form: Form) -> ReadSecret {
    let mut problems = Problems::default();
    let secret = source.read(form, &mut problems);
    let problem = problems.errors.pop().unwrap_or_else(|| Problem {
        key: source.key().to_owned(),
        line: None,
        message: "cannot be read".to_owned(),
    });
    ReadSecret {
        source: source.clone(),
        is_private_key: form == Form::Text,
        secret: secret.ok_or(problem),
        warnings: problems.warnings,
    }
}
