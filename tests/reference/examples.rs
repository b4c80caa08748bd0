//! The files in `examples/` are accepted by the program.

use std::process::Command;

use tenant_gateway::config::Config;

use crate::page::root;

pub(crate) fn configurations_are_accepted() {
    for name in ["sod", "kubernetes"] {
        let file = root().join("examples/config").join(name).join("gateway.toml");
        let loaded = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.warnings, [""; 0], "{name}");
        loaded.config.check_servable().unwrap_or_else(|error| panic!("{error}"));
    }
}

pub(crate) fn policies_pass() {
    let examples = root().join("examples");
    for name in ["sod", "kubernetes"] {
        let folder = examples.join("config").join(name);
        // The configuration names the applications, so a policy for another one is found.
        let mut config = vec!["--policy".into(), folder.join("policy.cedar")];
        if name == "sod" {
            config = vec!["--config".into(), folder.join("gateway.toml")];
        }
        check(&config);
    }
    let policies = examples.join("policies");
    for entry in policies.read_dir().unwrap().map(Result::unwrap) {
        let policy = entry.path();
        if policy.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        let mut arguments = vec!["--policy".into(), policy.clone()];
        let entities = policy.with_extension("entities.json");
        if entities.exists() {
            arguments.extend(["--entities".into(), entities]);
        }
        check(&arguments);
    }
}

fn check(arguments: &[std::path::PathBuf]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-gateway"));
    let output = command.args(["policy", "check"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}
